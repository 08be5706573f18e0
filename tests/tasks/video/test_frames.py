from pathlib import Path

import numpy as np
import pytest
from video_files import (
    brightness,
    picture,
    with_edit,
    with_matrix,
    write_clip,
    write_sound,
)

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.video import frames
from cdc_flower.tasks.video.frames import decode, read_videos, spread_in_time, spread_over
from cdc_flower.tasks.video.problems import Problems

RAISE = Problems.of("raise")


def test_frames_are_spread_over_the_clip() -> None:
    np.testing.assert_array_equal(spread_over(9, 3), [1, 4, 7])
    np.testing.assert_array_equal(spread_over(2, 4), [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("times", "last", "count", "rows"),
    [
        ([0, 10, 20, 90], 10, 2, [2, 2]),  # 25 and 75 of 100
        ([0, 10, 20, 90], 110, 2, [2, 3]),  # 50 and 150 of 200
        ([5, 15, 95], 0, 2, [1, 2]),  # from 5, and the last lasts 45: 38.75 and 106.25
        ([5, 15, 95], 0, 4, [1, 1, 1, 2]),
        ([0, 10, 50], 50, 2, [1, 2]),  # a frame is shown from its own time on: 25 and 75
        ([0, 10, 20, 30], 900, 2, [1, 3]),  # a steady rate is that of the index
        ([0, 33, 67, 100, 133, 167], 33, 3, [1, 3, 5]),  # rounded to ticks
        ([0, 1, 3, 4], 1, 2, [1, 2]),  # too coarse to be rounding: 1.25 and 3.75
        ([1, 2, 5, 4, 6, 7], 1, 3, [1, 3, 5]),  # times that do not rise are no times
        ([None, 2, 9], 1, 3, [0, 1, 2]),
        ([7], 0, 2, [0, 0]),
    ],
)
def test_frames_are_chosen_by_what_is_shown_at_the_time(
    times: list[int | None], last: int, count: int, rows: list[int]
) -> None:
    np.testing.assert_array_equal(spread_in_time(times, last, count), rows)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".gif", ".webm"])
def test_at_a_steady_rate_frames_are_those_of_the_index(suffix: str, tmp_path: Path) -> None:
    codec = {".gif": "gif", ".webm": "libvpx"}.get(suffix, "mpeg4")
    clip = write_clip(tmp_path / f"a{suffix}", codec=codec)
    assert brightness(decode(clip, 3, 32)) == pytest.approx([4, 12, 20], abs=1)
    assert brightness(decode(clip, 6, 32)) == pytest.approx([2, 6, 10, 14, 18, 22], abs=1)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_in_variable_frame_rate_frames_are_chosen_by_time(suffix: str, tmp_path: Path) -> None:
    times = [0, 40, 80, 120, 160, 200, 240, 2000, 4000, 6000]
    clip = write_clip(tmp_path / f"a{suffix}", len(times), times)
    assert brightness(decode(clip, 3, 32)) == [6, 7, 8]  # at 1, 3 and 5 s of 6


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((1, 0, 0, 1), lambda p: p),
        ((0, 1, -1, 0), lambda p: np.rot90(p, -1, (1, 2))),  # as phones write it: clockwise
        ((-1, 0, 0, -1), lambda p: np.rot90(p, 2, (1, 2))),
        ((0, -1, 1, 0), lambda p: np.rot90(p, 1, (1, 2))),
        ((-1, 0, 0, 1), lambda p: p[:, :, ::-1]),  # mirrored, as of a front camera
        ((1, 0, 0, -1), lambda p: p[:, ::-1]),
        ((0, 1, 1, 0), lambda p: p.swapaxes(1, 2)),
        ((0, -1, -1, 0), lambda p: np.rot90(p, 2, (1, 2)).swapaxes(1, 2)),
        ((0, 0, 0, 0), lambda p: p),
    ],
)
def test_pictures_are_turned_as_the_display_matrix_says(
    matrix: tuple[int, int, int, int], turned: object, tmp_path: Path
) -> None:
    assert callable(turned)
    clip = write_clip(tmp_path / "a.mp4")
    plain = decode(clip, 3, 32)
    (tmp_path / "b.mp4").write_bytes(with_matrix(clip.read_bytes(), *matrix))
    np.testing.assert_array_equal(decode(tmp_path / "b.mp4", 3, 32), turned(plain))
    assert plain[0, 0, 0].min() > 200 and plain[0, -1, 0].max() < 40, "corners tell the way up"


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (270, 3)])
@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
def test_pictures_are_turned_as_pyav_says(
    degrees: int, turns: int, suffix: str, tmp_path: Path
) -> None:
    av = pytest.importorskip("av", reason="pip install 'cdc-flower[video]'")
    plain = write_clip(tmp_path / f"a{suffix}")
    turned = tmp_path / f"b{suffix}"
    with av.open(str(plain)) as source, av.open(str(turned), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(degrees)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    with av.open(str(turned)) as told:
        assert next(told.decode(video=0)).rotation % 360 == degrees, "against the clock"
    np.testing.assert_array_equal(
        decode(turned, 3, 32), np.rot90(decode(plain, 3, 32), turns, (1, 2))
    )


def test_a_picture_on_a_slant_is_refused(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4")
    clip.write_bytes(with_matrix(clip.read_bytes(), 1, 1, -1, 1))
    with pytest.raises(UserError, match=r"a\.mp4: .*a turn by a multiple of 90 degrees is wanted"):
        decode(clip, 3, 32)


def test_what_an_edit_list_leaves_out_is_not_shown_and_not_missed(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", b_frames=2)
    clip.write_bytes(with_edit(clip.read_bytes(), 0.75, 0.75))
    assert brightness(decode(clip, 3, 32)) == pytest.approx([10, 13, 16], abs=1)  # 9 to 17 of 24
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[:-600])
    with pytest.raises(UserError, match=r"cut\.mp4: must be a whole video file"):
        decode(cut, 3, 32)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif"])
@pytest.mark.parametrize("share", [0.02, 0.4, 0.66, 0.9])
def test_a_truncated_file_is_refused_and_skip_counts_it(
    suffix: str, share: float, tmp_path: Path
) -> None:
    codec = {".gif": "gif", ".webm": "libvpx"}.get(suffix, "mpeg4")
    whole = write_clip(tmp_path / f"a{suffix}", codec=codec).read_bytes()
    cut = tmp_path / f"b{suffix}"
    cut.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"b\.\w+: must be a whole video file, got|b\.\w+: must be"):
        decode(cut, 3, 32)
    problems = Problems.of("skip")
    assert set(read_videos(str(tmp_path), ["a", "b"], 3, 32, problems)) == {"a"}
    assert problems.counts == {"video file": 1}


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_a_file_whose_end_is_zeros_is_refused(suffix: str, tmp_path: Path) -> None:
    codec = "libvpx" if suffix == ".webm" else "mpeg4"
    clip = write_clip(tmp_path / f"a{suffix}", codec=codec)
    data = clip.read_bytes()
    kept = int(0.5 * len(data))
    clip.write_bytes(data[:kept] + bytes(len(data) - kept))  # a download that stopped
    with pytest.raises(UserError, match=r"must be a whole video file"):
        decode(clip, 3, 32)


def test_a_recording_whose_size_was_never_written_is_read_unless_its_last_block_is_cut(
    tmp_path: Path,
) -> None:
    clip = write_clip(tmp_path / "a.mkv")
    data = bytearray(clip.read_bytes())
    segment = data.index(b"\x18\x53\x80\x67") + 4
    assert data[segment] == 1, "eight bytes of size"
    end = segment + 8 + int.from_bytes(data[segment + 1 : segment + 8], "big")
    data[segment + 1 : segment + 8] = b"\xff" * 7
    clip.write_bytes(data[:end])
    assert len(decode(clip, 3, 32)) == 3
    clip.write_bytes(data[: end - 1])
    with pytest.raises(UserError, match="must be a whole video file, got less than"):
        decode(clip, 3, 32)


@pytest.mark.parametrize(
    ("with_cover", "got"), [(False, "sound alone"), (True, "sound and a cover picture alone")]
)
def test_sound_alone_is_told_as_such(with_cover: bool, got: str, tmp_path: Path) -> None:
    file = write_sound(tmp_path / "a.mp4", with_cover)
    with pytest.raises(UserError, match=rf"a\.mp4: must hold a video, got {got}"):
        decode(file, 3, 32)


def test_a_cover_picture_is_no_clip_beside_one(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="pip install 'cdc-flower[video]'")
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        cover, video = (container.add_stream(codec, rate=12) for codec in ("mjpeg", "mpeg4"))
        for stream, pixels in ((cover, "yuvj420p"), (video, "yuv420p")):
            stream.height, stream.width = picture(0).shape[:2]
            stream.pix_fmt = pixels
        container.mux(cover.encode(av.VideoFrame.from_ndarray(picture(20), format="rgb24")))
        for number in range(6):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode())
    assert brightness(decode(tmp_path / "a.mkv", 3, 32)) == pytest.approx([1, 3, 5], abs=1)


def test_videos_are_found_by_capitals_other_suffixes_and_a_prefix(tmp_path: Path) -> None:
    data = write_clip(tmp_path / "x.mp4").read_bytes()
    (tmp_path / "x.mp4").unlink()
    for file in ("UP.MP4", "mov.mov", "v_net.m4v", ".up.mp4", "twice.mp4", "twice.MP4"):
        (tmp_path / file).write_bytes(data)
    (tmp_path / "twice.MP4").write_bytes(b"not read where there is one in small letters")
    names = ["UP", "mov", "net", "twice", "up", "gone"]
    assert set(read_videos(str(tmp_path), names, 3, 32, RAISE)) == {*names} - {"up", "gone"}


def test_where_no_video_is_found_it_is_said_what_was_sought_and_what_is_there(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.mpg").write_bytes(b"x")
    (tmp_path / "b.mp4").mkdir()
    message = r"NAME or v_NAME with \.avi, \.mp4.*which holds a\.mpg; sought a, b, c and 1 more"
    with pytest.raises(UserError, match=message):
        read_videos(str(tmp_path), ["a", "b", "c", "d"], 3, 32, RAISE)
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(UserError, match=r"1 video file skipped, first .*a\.mp4: must be a whole"):
        read_videos(str(tmp_path), ["a"], 3, 32, Problems.of("skip"))
    with pytest.raises(UserError, match=r"data\.videos must be a folder, got a file"):
        read_videos(str(tmp_path / "a.mp4"), ["a"], 3, 32, RAISE)


def test_clips_and_pictures_that_are_too_large_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_clip(tmp_path / "a.mp4")
    monkeypatch.setattr(frames, "MOST_PIXELS", 3_000)
    with pytest.raises(UserError, match=r"a\.mp4: .*64 x 48 is over the limit of 3,000 pixels"):
        decode(clip, 3, 32)
    monkeypatch.setattr(frames, "MOST_BYTES", 1_000)
    with pytest.raises(UserError, match=r"a\.mp4: must have at most 1,000 bytes"):
        decode(clip, 3, 32)


def test_words_beside_the_pictures_may_be_in_any_encoding(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4")
    data = clip.read_bytes()
    assert b"VideoHandler" in data
    clip.write_bytes(data.replace(b"VideoHandler", b"Vid\xe9oHandl\xffr"))
    assert len(decode(clip, 3, 32)) == 3
    for count in (0, 8, 100, 1_041, len(data) - 1):
        clip.write_bytes(data[:count])
        with pytest.raises(UserError, match=r"a\.mp4: must be a whole video file"):
            decode(clip, 3, 32)
