"""``python -m benchmarks.dissociated``."""

from benchmarks.dissociated.run import main

if __name__ == "__main__":
    main()
