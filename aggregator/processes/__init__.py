"""The program in several processes: a supervisor, one API server, and workers that are proxies.

The supervisor serves no API. It holds the listening sockets, starts the others, starts them again when they end, and
adds up what they count. It speaks with each over a socket pair that no other process can reach; when the supervisor is
gone, that socket ends, and so does the other process.
"""
