import _thread
import signal
import threading
import time

import pytest

import pupil


def greedy(model: pupil.Model, **options) -> pupil.Chat:
    return pupil.Chat(model, temperature=0, max_tokens=24, threads=1, **options)


def endless(model: pupil.Model) -> pupil.Chat:
    """A chat that answers "hello" until somebody ends it: its likeliest tokens go round in circles."""
    return pupil.Chat(model, temperature=0, shift=True, threads=1)


def test_an_answer_is_its_pieces(model):
    pieces = []
    answer = greedy(model).say("hello", pieces.append)
    assert answer.text == "".join(pieces) == str(answer) == greedy(model).say("hello").text
    assert all(pieces) and answer.tokens <= 24 and answer.prompt_tokens > 0
    assert answer.finish in ("end", "length") and answer.decode_seconds >= 0
    assert repr(answer).startswith("Answer(")


def test_the_listener_ends_an_answer_and_its_exceptions_are_raised(model):
    heard = []

    def two(piece):
        heard.append(piece)
        return len(heard) < 2

    chat = greedy(model)
    answer = chat.say("hello", two)
    assert (answer.finish, len(heard)) == ("cancelled", 2)

    def fails(piece):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        chat.say("hello", fails)
    chat.reset()
    assert chat.say("hello").text == greedy(model).say("hello").text


def test_a_stream_gives_the_same_pieces_and_then_the_answer(model):
    stream = greedy(model).stream("hello")
    assert stream.answer is None
    text = "".join(stream)
    assert text == stream.answer.text == greedy(model).say("hello").text
    assert next(stream, None) is None


def test_leaving_a_stream_frees_the_chat(model):
    chat = endless(model)
    for _ in chat.stream("hello"):
        break
    assert chat.say("hello", lambda _: False).finish == "cancelled"


def test_one_answer_at_a_time(model):
    chat = endless(model)
    stream = chat.stream("hello")
    next(stream)
    with pytest.raises(RuntimeError, match="busy with another answer"):
        chat.say("hello")
    with pytest.raises(RuntimeError, match="busy"):
        greedy_chat = greedy(model)
        greedy_chat.say("hello", lambda _: greedy_chat.reset())
    del stream


def test_a_stream_has_the_chat_from_the_beginning(model):
    for _ in range(20):
        chat = endless(model)
        stream = chat.stream("hello")
        with pytest.raises(RuntimeError, match="busy"):
            chat.stream("hello")
        with pytest.raises(RuntimeError, match="busy"):
            chat.reset()
        del stream


@pytest.mark.parametrize("ask", [lambda chat: chat.say("hello"), lambda chat: list(chat.stream("hello"))])
def test_ctrl_c_ends_an_answer(model, ask):
    # What runs in the background of a shell begins with signals of Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    chat = endless(model)
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ask(chat)
    timer.join()
    signal.signal(signal.SIGINT, before)
    assert chat.say("hello", lambda _: False).finish == "cancelled"


def test_other_threads_run_meanwhile(model):
    ticks, chat = [], endless(model)

    def tick():
        for _ in range(20):
            time.sleep(0.005)
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    chat.say("hello", lambda _: thread.is_alive())
    thread.join()
    assert len(ticks) == 20


def test_stop_texts_and_seeds(model):
    whole = greedy(model).say("hello").text
    stop = whole[len(whole) // 2 :][:3]
    answer = greedy(model, stop=[stop]).say("hello")
    assert answer.finish == "stop" and whole.startswith(answer.text) and stop not in answer.text
    texts = {pupil.Chat(model, max_tokens=24, seed=seed, threads=1).say("hello").text for seed in [7, 7, 8]}
    assert len(texts) == 2


def test_what_goes_wrong_is_said_in_one_line(model, t5, tmp_path):
    with pytest.raises(OSError, match="^no/such.gguf: ") as error:
        pupil.Model("no/such.gguf")
    assert "\n" not in str(error.value)
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF\x03\0\0\0")
    with pytest.raises(pupil.FormatError, match="damaged.gguf"):
        pupil.Model(damaged)
    with pytest.raises(pupil.Error, match="holds a translator"):
        pupil.Model(t5)
    with pytest.raises(ValueError, match="0 threads"):
        pupil.Chat(model, threads=0)
    with pytest.raises(pupil.ContextFullError, match="the context is full"):
        pupil.Chat(model, context=4).say("hello " * 20)
    with pytest.raises(TypeError):
        pupil.Chat(model, "a system prompt is named")
