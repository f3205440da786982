/* Asks a model one question and prints the answer as it comes.
 *
 *   cc chat.c -lpupil -o chat && ./chat model.gguf "Why is the sky blue?"
 */
#include <pupil.h>
#include <stdio.h>
#include <string.h>

static int print_piece(const char *piece, size_t len, void *user)
{
    (void)user;
    fwrite(piece, 1, len, stdout);
    fflush(stdout);
    return 0; /* anything else would end the answer */
}

static int failed(const char *what)
{
    fprintf(stderr, "chat: %s: %s\n", what, pupil_last_error());
    return 1;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: chat MODEL.gguf QUESTION\n");
        return 1;
    }
    pupil_model *model = NULL;
    if (pupil_model_open(argv[1], &model) != PUPIL_OK)
        return failed("cannot open the model");

    pupil_chat_options options;
    if (pupil_chat_options_init(&options, sizeof options) != PUPIL_OK)
        return failed("cannot set the options");
    options.temperature = 0; /* always the likeliest token */
    options.max_tokens = 64;

    pupil_chat *chat = NULL;
    pupil_status status = pupil_chat_new(model, &options, &chat);
    pupil_model_free(model); /* the chat keeps what it needs */
    if (status != PUPIL_OK)
        return failed("cannot begin a chat");

    pupil_answer answer = { .size = sizeof answer };
    status = pupil_chat_say(chat, argv[2], strlen(argv[2]), print_piece, NULL, &answer);
    if (status == PUPIL_OK)
        fprintf(stderr, "\n%zu tokens in %.3f s\n", answer.tokens, answer.prompt_seconds + answer.decode_seconds);
    else
        failed("cannot answer");
    pupil_chat_free(chat);
    return status == PUPIL_OK ? 0 : 1;
}
