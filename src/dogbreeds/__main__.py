"""`python -m dogbreeds <command>`, the same as `dogbreeds <command>`."""

from dogbreeds.commands import main

if __name__ == "__main__":
    main()
