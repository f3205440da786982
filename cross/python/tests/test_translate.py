import threading

import pytest

import pupil


def test_texts_come_alone_and_together(t5):
    translator = pupil.Translator(t5, beam=3, threads=1)
    texts = ["An apple. Bread?", "", "- face\n\n- deaf"]
    together = translator.translate_batch(texts)
    assert [translation.text for translation in together] == [translator.translate(text).text for text in texts]
    assert [translation.sentences for translation in together] == [2, 0, 2]
    assert together[1].text == "" and together[1].score == 0 and together[1].finish == "end"
    assert together[2].text.startswith("- ") and "\n\n- " in together[2].text
    assert together[0].score < 0 and together[0].tokens > 0 and together[0].source_tokens > 0
    assert str(together[0]) == together[0].text and repr(together[0]).startswith("Translation(")
    assert translator.translate_batch([]) == []


def test_many_texts_keep_their_order(t5):
    translator = pupil.Translator(t5, batch=2, threads=1)
    texts = ["face", "An apple.", "deaf cab"] * 15
    translations = [translation.text for translation in translator.translate_batch(texts)]
    assert translations == translations[:3] * 15


def test_a_length_that_is_reached_is_told(t5):
    translation = pupil.Translator(t5, max_length_ratio=0.01, no_repeat_ngram=2).translate("An apple " * 20)
    assert translation.finish == "length"


def test_threads_take_turns(t5):
    translator, found = pupil.Translator(t5, threads=1), []
    translate = lambda: found.append(translator.translate("An apple. Bread?").text)
    threads = [threading.Thread(target=translate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1


def test_other_threads_run_meanwhile(t5, turns):
    translator, text, seconds = pupil.Translator(t5, threads=1), "An apple. Bread? ", 0.0
    while seconds < 0.2:
        text *= 2
        seconds, ticks = turns(lambda: translator.translate(text))
    assert ticks >= 5, f"{ticks} in {seconds} s"


def test_what_goes_wrong_is_said_in_one_line(t5):
    with pytest.raises(OSError, match="^no/such.gguf: "):
        pupil.Translator("no/such.gguf")
    with pytest.raises(ValueError, match="does not translate to fr"):
        pupil.Translator(t5, target="fr")
    with pytest.raises(ValueError, match="beam is 0"):
        pupil.Translator(t5, beam=0)
    with pytest.raises(TypeError):
        pupil.Translator(t5).translate(5)
