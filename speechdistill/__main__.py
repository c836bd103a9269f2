"""`python -m speechdistill VERB ...`."""

from speechdistill import cli

if __name__ == "__main__":
    cli.main()
