"""`python -m medvid` is `medvid`."""

from medvid.cli import main

if __name__ == "__main__":
    main()
