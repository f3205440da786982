// The work of `pupil bench --threads 1` in llama.cpp: a prompt at once, then single tokens, with the logits of the last one.
//
//   llama MODEL PROMPT DECODE REPS
//
// Attention is one operation, and weights are rearranged when they are loaded: of its settings, those that took the fewest
// instructions.

#include <llama.h>
#include <stdio.h>
#include <stdlib.h>

static void quiet(enum ggml_log_level level, const char *text, void *data) {
    (void)data;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static void check(int good, const char *what) {
    if (good) return;
    fprintf(stderr, "llama: %s failed\n", what);
    exit(1);
}

static void pass(struct llama_context *context, llama_token *tokens, int prompt, int decode) {
    llama_memory_clear(llama_get_memory(context), false);
    check(llama_decode(context, llama_batch_get_one(tokens, prompt)) == 0, "the prompt");
    for (int i = 0; i < decode; i++) {
        check(llama_decode(context, llama_batch_get_one(tokens + prompt + i, 1)) == 0, "a token");
    }
}

int main(int argc, char **argv) {
    check(argc == 5, "reading four arguments");
    int prompt = atoi(argv[2]), decode = atoi(argv[3]), reps = atoi(argv[4]);
    check(prompt > 0 && decode > 0, "reading numbers of tokens");

    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model_params load = llama_model_default_params();
    load.use_extra_bufts = true;
    struct llama_model *model = llama_model_load_from_file(argv[1], load);
    check(model != NULL, "loading the model");

    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = prompt + decode;
    params.n_threads = params.n_threads_batch = 1;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    params.no_perf = true;
    struct llama_context *context = llama_init_from_model(model, params);
    check(context != NULL, "making a context");

    // As `pupil bench` chooses them (Knuth's multiplicative hash).
    uint64_t words = llama_vocab_n_tokens(llama_model_get_vocab(model));
    llama_token *tokens = malloc((prompt + decode) * sizeof *tokens);
    check(tokens != NULL, "allocating");
    for (int i = 0; i < prompt + decode; i++) tokens[i] = (i + 1) * UINT64_C(2654435761) % words;

    pass(context, tokens, prompt, decode < 4 ? decode : 4);
    for (int i = 0; i < reps; i++) pass(context, tokens, prompt, decode);
    return 0;
}
