/* Translates texts together and prints a line for each.
 *
 *   cc translate.c -lpupil -o translate && ./translate en-de.gguf "Good morning." "How are you?"
 */
#include <pupil.h>
#include <stdio.h>
#include <string.h>

#define MOST 100

static int failed(const char *what)
{
    fprintf(stderr, "translate: %s: %s\n", what, pupil_last_error());
    return 1;
}

int main(int argc, char **argv)
{
    if (argc < 3 || argc > 2 + MOST) {
        fprintf(stderr, "usage: translate TRANSLATOR.gguf TEXT...\n");
        return 1;
    }
    pupil_translate_options options;
    if (pupil_translate_options_init(&options, sizeof options) != PUPIL_OK)
        return failed("cannot set the options");
    options.beam = 4;

    pupil_translator *translator = NULL;
    if (pupil_translator_open(argv[1], &options, &translator) != PUPIL_OK)
        return failed("cannot open the translator");

    const char *texts[MOST];
    size_t lens[MOST], count = (size_t)argc - 2;
    for (size_t i = 0; i < count; i++) {
        texts[i] = argv[2 + i];
        lens[i] = strlen(texts[i]);
    }
    pupil_status status = pupil_translate_batch(translator, texts, lens, count);
    for (size_t i = 0; status == PUPIL_OK && i < count; i++) {
        pupil_translation result = { .size = sizeof result };
        status = pupil_translator_result(translator, i, &result);
        if (status == PUPIL_OK) {
            fwrite(result.text, 1, result.text_len, stdout);
            putchar('\n');
            fprintf(stderr, "%zu tokens to %zu, score %.2f%s\n", result.source_tokens, result.tokens, result.score,
                    result.finish == PUPIL_FINISH_END ? "" : ", cut");
        }
    }
    if (status != PUPIL_OK)
        failed("cannot translate");
    pupil_translator_free(translator);
    return status == PUPIL_OK ? 0 : 1;
}
