import struct
import zlib

import numpy as np
import pytest

import pupil


def png(picture: np.ndarray) -> bytes:
    """A PNG file, without a library for pictures."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = picture.shape
    rows = b"".join(b"\0" + row.tobytes() for row in picture)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def sorted_boxes(found):
    return sorted((each.name, each.box) for each in found)


def test_objects_have_names_scores_and_boxes(lights, street):
    detector = pupil.Detector(lights, threads=1)
    assert detector.classes == ["white light", "red light"]
    found = detector.detect(street)
    assert sorted_boxes(found) == [("red light", (40, 48, 48, 56)), ("white light", (8, 16, 16, 24))]
    assert all(0.5 < each.score <= 1 and detector.classes[each.class_id] == each.name for each in found)
    assert repr(found[0]).startswith("Detection(")


def test_arrays_hold_the_same(lights, street):
    detector = pupil.Detector(lights, threads=1)
    boxes, scores, classes = detector.detect_arrays(street)
    assert (boxes.dtype, scores.dtype, classes.dtype) == (np.float32, np.float32, np.int64)
    found = detector.detect(street)
    np.testing.assert_array_equal(boxes, [each.box for each in found])
    np.testing.assert_allclose(scores, [each.score for each in found])
    np.testing.assert_array_equal(classes, [each.class_id for each in found])
    boxes, scores, classes = detector.detect_arrays(np.zeros((64, 64, 3), np.uint8))
    assert (boxes.shape, scores.shape, classes.shape) == ((0, 4), (0,), (0,))


def test_pictures_are_arrays_paths_and_bytes(lights, street, tmp_path):
    detector = pupil.Detector(lights, threads=1)
    path = tmp_path / "street.png"
    path.write_bytes(png(street))
    expected = sorted_boxes(detector.detect(street))
    for picture in [path, str(path), png(street)]:
        assert sorted_boxes(detector.detect(picture)) == expected


def test_boxes_are_drawn_on_a_copy(lights, street):
    detector = pupil.Detector(lights, threads=1)
    before = street.copy()
    found = detector.detect(street)
    drawn = detector.draw(street, found)
    assert (drawn.dtype, drawn.shape) == (np.uint8, street.shape)
    np.testing.assert_array_equal(street, before)
    assert (drawn != street).any()
    np.testing.assert_array_equal(detector.draw(street, []), street)
    (red,) = pupil.Detector(lights, classes=["red light"]).detect(street)
    changed = (detector.draw(street, [red]) != street).any(axis=2)
    assert changed[44:60, 36:52].any() and (drawn != detector.draw(street, [red])).any()


def test_views_are_read_as_they_are_seen(lights, street):
    detector = pupil.Detector(lights, threads=1)
    expected = sorted_boxes(detector.detect(street))
    bgr = np.ascontiguousarray(street[..., ::-1])
    wide = np.zeros((64, 100, 3), np.uint8)
    wide[:, 20:84] = street
    for view in [bgr[..., ::-1], wide[:, 20:84], np.asfortranarray(street)]:
        assert not view.flags.c_contiguous
        assert sorted_boxes(detector.detect(view)) == expected


def test_options_choose(lights, street):
    (red,) = pupil.Detector(lights, classes=["Red light"]).detect(street)
    assert red.name == "red light"
    assert len(pupil.Detector(lights, at_most=1).detect(street)) == 1
    assert pupil.Detector(lights, confidence=1.0).detect(street) == []


@pytest.mark.parametrize("look", [pupil.Detector.detect, pupil.Detector.detect_arrays, lambda d, p: d.draw(p, [])])
def test_other_threads_run_meanwhile(lights, turns, look):
    detector, side, seconds = pupil.Detector(lights, threads=1), 256, 0.0
    while seconds < 0.2:
        side *= 2
        picture = png(np.zeros((side, side, 3), np.uint8))
        seconds, ticks = turns(lambda: look(detector, picture))
    assert ticks >= 5, f"{ticks} in {seconds} s"


@pytest.mark.parametrize(
    "picture, message",
    [
        (np.zeros((64, 64), np.uint8), r"uint8 \[64, 64\]: expected uint8, height x width x 3"),
        (np.zeros((64, 64, 4), np.uint8), r"expected uint8, height x width x 3"),
        (np.zeros((64, 64, 3), np.float32), r"float32 \[64, 64, 3\]: expected uint8"),
        (5, "a picture is an array, a path or bytes, not int"),
    ],
)
def test_pictures_of_another_kind_are_refused(lights, picture, message):
    with pytest.raises(TypeError, match=message):
        pupil.Detector(lights).detect(picture)


def test_what_goes_wrong_is_said_in_one_line(lights, t5):
    with pytest.raises(OSError, match="^no/such.png: "):
        pupil.Detector(lights).detect("no/such.png")
    with pytest.raises(pupil.FormatError, match="no picture"):
        pupil.Detector(lights).detect(b"no picture")
    with pytest.raises(ValueError, match="0 x 64"):
        pupil.Detector(lights).detect(np.zeros((64, 0, 3), np.uint8))
    with pytest.raises(ValueError, match="blue light"):
        pupil.Detector(lights, classes=["blue light"])
    with pytest.raises(ValueError, match="confidence"):
        pupil.Detector(lights, confidence=2)
    with pytest.raises(pupil.Error):
        pupil.Detector(t5)
