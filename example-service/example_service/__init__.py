"""An aggregated API server that only declares: its kinds are in `resources`, everything else is the library's."""
