"""`python -m accord`, for launchers that start a module in several processes."""

from accord.cli import main

if __name__ == "__main__":
    main()
