"""`python -m serinus` is the `serinus` command."""

from serinus.cli.app import main

if __name__ == "__main__":
    main()
