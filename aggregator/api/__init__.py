"""The aggregator's own kinds, and the controllers and documents that make many servers look like one.

Pure parts decide (`probe`, `desired`, `conditions`, `priorities`, `*_answer`, `*_snapshot`), controllers
act. Knows nothing of `aggregator.proxy`: both see the world as clients of the API.
"""
