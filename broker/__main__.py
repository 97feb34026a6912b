"""`python -m broker` and the script `broker` are the CLI."""

from broker.cli.main import main

if __name__ == "__main__":
    main()
