"""Count the frames of a video with a decoder that takes its time, and with little patience."""

import subprocess
import sys
import time
from pathlib import Path

from examples.mpii_cooking.data import decoder, video


def decode_slowly():
    read = decoder._Source.packets

    def packets(source):
        for packet in read(source):
            time.sleep(0.7)
            yield packet

    decoder._Source.packets = packets
    decoder.serve()


def count(path):
    start, slow = subprocess.Popen, [sys.executable, "-m", __spec__.name, "decode"]
    video.PATIENCE, video.subprocess.Popen = 2, lambda _, **options: start(slow, **options)
    print("begins", flush=True)
    print(video.count_frames(path))


if __name__ == "__main__":
    decode_slowly() if sys.argv[1] == "decode" else count(Path(sys.argv[1]))
