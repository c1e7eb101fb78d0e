"""An asynchronous library to write Kubernetes-style (aggregated) API servers with.

Is: resource declarations, storage, REST verbs, watch, authentication, controllers, health, metrics, serving.
Is not: any concrete kind; a program that uses this library only declares its resources.
May import: apimachinery.
"""
