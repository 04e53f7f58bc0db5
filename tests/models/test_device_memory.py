"""Where memory runs out, fewer items go at once, then one alone, and then it is refused."""

import pytest
import torch

from gdro_comfy.errors import InputError
from gdro_comfy.models.device_memory import in_parts, is_out_of_memory


class Device:
    """A device with room for so many items, and so many more once everything has left it."""

    device = torch.device("cpu")

    def __init__(self, room, released_room=None):
        self.room, self.released_room = room, released_room
        self.calls, self.releases = [], 0

    def release(self):
        self.releases += 1
        if self.released_room is not None:
            self.room = self.released_room

    def work(self, part):
        count = part.stop - part.start
        self.calls.append(count)
        if count > self.room:
            raise torch.OutOfMemoryError(f"tried to allocate {count}\nof nothing")
        return list(range(part.start, part.stop))


def run(device, count, at_once):
    return [i for part in in_parts(device, device.work, count, at_once, "drawing") for i in part]


@pytest.mark.parametrize("room", [1, 2, 3, 5, 8, 100])
def test_every_item_is_worked_on_once_and_in_order(room, caplog):
    device = Device(room)
    assert run(device, 13, 8) == list(range(13))
    assert device.releases == 0
    assert ("out of memory while drawing" in caplog.text) == (room < 8)


def test_it_does_not_try_more_at_once_again(caplog):
    device = Device(2)
    run(device, 8, 8)
    assert device.calls == [8, 4, 2, 2, 2, 2]


def test_one_item_is_tried_again_alone_on_the_device():
    device = Device(0, released_room=1)
    assert run(device, 3, 2) == [0, 1, 2]
    assert device.releases == 1


def test_what_does_not_fit_alone_is_refused_with_what_would():
    with pytest.raises(
        InputError, match="not even one image fits .* while drawing .*tried to allo"
    ):
        run(Device(0), 3, 2)


def test_other_errors_pass_through():
    def broken(part):
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(in_parts(Device(1), broken, 2, 1, "drawing"))


def test_the_error_of_apples_devices_counts_too():
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(MemoryError())
