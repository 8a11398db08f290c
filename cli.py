"""The checkout's door: `python cli.py` is `medvid`, without installing anything."""

from medvid.cli import main

if __name__ == "__main__":
    main()
