"""`python example-service` starts the example API server."""

from example_service.cli import main

if __name__ == "__main__":
    main()
