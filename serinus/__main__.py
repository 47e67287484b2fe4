"""`python -m serinus` is the `serinus` command."""

from serinus.cli.main import main

if __name__ == "__main__":
    main()
