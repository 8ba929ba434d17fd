"""The line to the agent: whole frames, whichever thread they come from."""

from __future__ import annotations

import socket
import threading

from truerun.adapters.pytorch.channel import Channel
from truerun.adapters.pytorch.frames import parse_frames

FRAMES, THREADS = 1500, 3


def test_frames_from_several_threads_stay_whole(tmp_path):
    """A data loader is read in a thread of its own while training goes on: no frame is cut, doubled or lost."""
    path = str(tmp_path / "probe")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(1)
    channel = Channel(path)
    assert channel.open({"kind": "hello"})
    connection, _ = listener.accept()

    def speak(number: int) -> None:
        for count in range(FRAMES):
            channel.send({"kind": "said", "thread": number, "count": count}, {"x": ("f8", bytes(800))})

    threads = [threading.Thread(target=speak, args=(number,)) for number in range(THREADS)]
    received = b""
    connection.settimeout(0.05)
    for thread in threads:
        thread.start()
    quiet = 0
    while quiet < 2:
        try:
            received += connection.recv(1 << 16)
        except TimeoutError:
            quiet = 0 if any(thread.is_alive() for thread in threads) else quiet + 1
            channel.flush(0.01)
    frames, rest = parse_frames(received)
    assert rest == b""
    said = [(frame.header["thread"], frame.header["count"]) for frame in frames[1:]]
    assert sorted(said) == [(number, count) for number in range(THREADS) for count in range(FRAMES)]
    for number in range(THREADS):
        assert [count for thread, count in said if thread == number] == list(range(FRAMES))
    assert channel.dropped == 0
    assert channel._socket is not None
    for end in (channel._socket, connection, listener):
        end.close()
