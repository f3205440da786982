#ifndef PUPIL_H
#define PUPIL_H

#include <stddef.h>
#include <stdint.h>

/* Chat, translation and detection with small models from one mapped GGUF file.
 *
 * - A function that can fail returns a pupil_status; the message is pupil_last_error().
 * - Text goes in as a pointer and a length in bytes, and comes out the same way; it is UTF-8. Paths end with a NUL.
 * - Structures of options and results begin with their own size, so that a program that was compiled against an older
 *   header goes on working with a newer library.
 * - Handles may move from thread to thread, but only one thread at a time uses one. Models are the exception: any
 *   number of threads may make chats of one.
 * - Where a comment does not say that a pointer may be NULL, it points to what the comment says.
 */

// How a call went.
typedef enum {
  // It did what it says.
  PUPIL_OK = 0,
  // The operating system refused to read or write something.
  PUPIL_ERROR_IO = 1,
  // A file is damaged, truncated, or not what its format promises.
  PUPIL_ERROR_FORMAT = 2,
  // A file is sound, but asks for something this version does not do.
  PUPIL_ERROR_UNSUPPORTED = 3,
  // An argument makes no sense.
  PUPIL_ERROR_INPUT = 4,
  // The conversation no longer fits into the model's context.
  PUPIL_ERROR_CONTEXT_FULL = 5,
  // A fault of the library itself. The handle that was used must only be freed.
  PUPIL_ERROR_INTERNAL = 6,
} pupil_status;

// Why an answer or a translation ended.
typedef enum {
  // The model ended it.
  PUPIL_FINISH_END = 0,
  // A stop string came.
  PUPIL_FINISH_STOP = 1,
  // It reached the most tokens allowed.
  PUPIL_FINISH_LENGTH = 2,
  // The context is full.
  PUPIL_FINISH_CONTEXT_FULL = 3,
  // The callback broke off.
  PUPIL_FINISH_CANCELLED = 4,
  // It began to repeat itself, and was cut.
  PUPIL_FINISH_REPEATS = 5,
} pupil_finish;

// A conversation with a model.
typedef struct pupil_chat pupil_chat;

// A detector: one file, mapped, and all that it computes with.
typedef struct pupil_detector pupil_detector;

// A language model: one file, mapped.
typedef struct pupil_model pupil_model;

// A translator: one file, mapped, and all that it computes with.
typedef struct pupil_translator pupil_translator;

// How a conversation goes. Fill it with `pupil_chat_options_init` and change what you want otherwise. How tokens are chosen
// goes by what the model's file recommends where a number is below 0, as it is at first.
typedef struct {
  // The size of this structure.
  size_t size;
  // What the model is told before the first turn; NULL for nothing.
  const char *system;
  // Bytes of `system`.
  size_t system_len;
  // Tokens that fit into the conversation; 0: what the model was trained for, but at most 4096.
  size_t context;
  // Tokens of an answer, at most; 0: no limit.
  size_t max_tokens;
  // Threads to compute with; 0: one for each core.
  size_t threads;
  // The same seed gives the same answers.
  uint64_t seed;
  // 0 always takes the likeliest token.
  float temperature;
  // Chooses among the likeliest tokens that together are this likely; 1 among all.
  float top_p;
  // Chooses among tokens at least this fraction as likely as the likeliest; 0 among all.
  float min_p;
  // Makes tokens that came lately less likely; 1 does not.
  float repeat_penalty;
  // Chooses among the k likeliest tokens; 0 among all.
  int32_t top_k;
  // Not 0: continues text as it stands, without the model's chat template.
  uint32_t raw;
  // Not 0: forgets the oldest turns when the context is full, instead of ending the answer.
  uint32_t shift;
  // Keeps the size a multiple of that of a pointer.
  uint32_t reserved;
  // Texts that end an answer and are no part of it, with a 0 between two of them; NULL for none.
  const char *stop;
  // Bytes of `stop`.
  size_t stop_len;
} pupil_chat_options;

// Gets a piece of an answer: whole characters, `len` bytes at `piece`, without a NUL; `user` is what the caller gave. An
// empty piece only asks whether to go on. Anything but 0 ends the answer. It has to return, neither by an exception nor by
// longjmp, and must not use or free the chat.
typedef int (*pupil_listener)(const char *piece, size_t len, void *user);

// An answer and what it took.
typedef struct {
  // The size of this structure, set by the caller.
  size_t size;
  // Tokens of the conversation up to the answer.
  size_t prompt_tokens;
  // Those of them that were computed for earlier turns.
  size_t reused_tokens;
  // Tokens of the answer.
  size_t tokens;
  // Seconds until the first token could be chosen.
  double prompt_seconds;
  // Seconds from then to the end.
  double decode_seconds;
  // Why it ended: a `pupil_finish`.
  uint32_t finish;
  // Keeps the size a multiple of that of a pointer.
  uint32_t reserved;
} pupil_answer;

// What a detector is to do otherwise than its file says. Fill it with `pupil_detect_options_init`.
typedef struct {
  // The size of this structure.
  size_t size;
  // The classes to look for, by number; NULL for all.
  const uint32_t *classes;
  // How many there are.
  size_t class_count;
  // The most objects in a picture; 0: as the file says.
  size_t max;
  // Threads to compute with; 0: one for each core.
  size_t threads;
  // The least score, from 0 to 1; below 0: as the file says.
  float confidence;
  // By how much boxes of a class may overlap, from 0 to 1; below 0: as the file says.
  float iou;
} pupil_detect_options;

// One object: a box from its top left corner (x0, y0) to its bottom right corner (x1, y1), in the picture's pixels.
typedef struct {
  float x0;
  float y0;
  float x1;
  float y1;
  // How sure the model is, usually from 0 to 1.
  float score;
  // Which of the model's classes.
  uint32_t class_id;
} pupil_detection;

// How a translator goes about it. Fill it with `pupil_translate_options_init` and change what you want otherwise.
typedef struct {
  // The size of this structure.
  size_t size;
  // The language to translate from, such as "en", where the file names the languages that it knows; NULL: as it says.
  const char *from;
  // Bytes of `from`.
  size_t from_len;
  // The language to translate to; NULL: as the file says.
  const char *to;
  // Bytes of `to`.
  size_t to_len;
  // What to put before every sentence; NULL: what the file says.
  const char *prefix;
  // Bytes of `prefix`.
  size_t prefix_len;
  // Hypotheses that are followed at once; with 1, always the likeliest token.
  size_t beam;
  // No sequence of so many tokens comes twice in a sentence; 0 allows all.
  size_t no_repeat_ngram;
  // Sentences that are translated together.
  size_t batch;
  // Threads to compute with; 0: one for each core.
  size_t threads;
  // A hypothesis counts by its log-probability over `length ^ length_penalty`: above 0, longer ones gain.
  float length_penalty;
  // Tokens of a sentence's translation for each of the sentence's, at most; a few more are always allowed.
  float max_length_ratio;
  // Not 0: uses the file's shortlist, if it has one.
  uint32_t shortlist;
  // Keeps the size a multiple of that of a pointer.
  uint32_t reserved;
} pupil_translate_options;

// A translation and what it took.
typedef struct {
  // The size of this structure, set by the caller.
  size_t size;
  // The translation, in the layout of the text, without a NUL; it stays until the translator translates again.
  const char *text;
  // Bytes of `text`.
  size_t text_len;
  // Sentences, and parts of sentences too long for one.
  size_t sentences;
  // Tokens of the text.
  size_t source_tokens;
  // Tokens of the translation.
  size_t tokens;
  // The mean over sentences of their log-probability over `length ^ length_penalty`; 0 without sentences.
  float score;
  // How the sentence ended that ended worst: `PUPIL_FINISH_END`, `_LENGTH` or `_REPEATS`.
  uint32_t finish;
} pupil_translation;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The message of this thread's last call that failed: one line that ends with a NUL, empty if none did. It stays where
// it is until the next call of this thread fails.
const char *pupil_last_error(void);

// The library's version, such as "0.1.0".
const char *pupil_version(void);

// Maps the GGUF file at `path`. Takes milliseconds: weights are read when they are first used.
pupil_status pupil_model_open(const char *path, pupil_model **model);

// A model whose file is in memory. It is used in place: the bytes must stay as they are until the model and all chats
// made of it are freed.
pupil_status pupil_model_open_memory(const uint8_t *data,
                                     size_t len,
                                     pupil_model **model);

// Frees a model. Chats made of it go on.
void pupil_model_free(pupil_model *model);

// Fills `options`, which are `size` bytes (`sizeof`), with the defaults.
pupil_status pupil_chat_options_init(pupil_chat_options *options, size_t size);

// A new conversation. `options` may be NULL for the defaults.
pupil_status pupil_chat_new(const pupil_model *model,
                            const pupil_chat_options *options,
                            pupil_chat **chat);

// Says `text` and streams the answer to `listener`, which may be NULL. What the answer took goes to `answer`, which may
// be NULL; its `size` must be set.
pupil_status pupil_chat_say(pupil_chat *chat,
                            const char *text,
                            size_t len,
                            pupil_listener listener,
                            void *user,
                            pupil_answer *answer);

// The last answer's text: `len` bytes at the returned pointer, without a NUL, until the chat is used again.
const char *pupil_chat_text(const pupil_chat *chat,
                            size_t *len);

// Forgets the conversation; the system prompt stays.
pupil_status pupil_chat_reset(pupil_chat *chat);

// Frees a chat.
void pupil_chat_free(pupil_chat *chat);

// Fills `options`, which are `size` bytes (`sizeof`), with the defaults.
pupil_status pupil_detect_options_init(pupil_detect_options *options, size_t size);

// Maps the GGUF file at `path`. `options` may be NULL for the defaults.
pupil_status pupil_detector_open(const char *path,
                                 const pupil_detect_options *options,
                                 pupil_detector **detector);

// A detector whose file is in memory. It is used in place: the bytes must stay as they are until the detector is freed.
pupil_status pupil_detector_open_memory(const uint8_t *data,
                                        size_t len,
                                        const pupil_detect_options *options,
                                        pupil_detector **detector);

// How many classes the model knows; 0 for NULL.
size_t pupil_detector_class_count(const pupil_detector *detector);

// The name of a class, which ends with a NUL and lives as long as the detector; NULL if there is no such class.
const char *pupil_detector_class_name(const pupil_detector *detector,
                                      uint32_t class_id);

// What is in a picture in memory: `height` rows of `width` pixels of three bytes, red first, row after row `stride`
// bytes. The objects of the highest scores go to `found`, at most `capacity` of them; `count` becomes how many there are
// in all.
pupil_status pupil_detect_rgb(pupil_detector *detector,
                              const uint8_t *rgb,
                              size_t width,
                              size_t height,
                              size_t stride,
                              pupil_detection *found,
                              size_t capacity,
                              size_t *count);

// As `pupil_detect_rgb`, of a JPEG, PNG, BMP or WebP file in memory.
pupil_status pupil_detect_encoded(pupil_detector *detector,
                                  const uint8_t *data,
                                  size_t len,
                                  pupil_detection *found,
                                  size_t capacity,
                                  size_t *count);

// As `pupil_detect_rgb`, of a JPEG, PNG, BMP or WebP file.
pupil_status pupil_detect_file(pupil_detector *detector,
                               const char *path,
                               pupil_detection *found,
                               size_t capacity,
                               size_t *count);

// Frees a detector.
void pupil_detector_free(pupil_detector *detector);

// Fills `options`, which are `size` bytes (`sizeof`), with the defaults.
pupil_status pupil_translate_options_init(pupil_translate_options *options, size_t size);

// Maps the GGUF file at `path`. `options` may be NULL for the defaults.
pupil_status pupil_translator_open(const char *path,
                                   const pupil_translate_options *options,
                                   pupil_translator **translator);

// A translator whose file is in memory. It is used in place: the bytes must stay as they are until the translator is
// freed.
pupil_status pupil_translator_open_memory(const uint8_t *data,
                                          size_t len,
                                          const pupil_translate_options *options,
                                          pupil_translator **translator);

// Translates a text of any length, which may be empty. What became of it goes to `translation`, which may be NULL; its
// `size` must be set.
pupil_status pupil_translate(pupil_translator *translator,
                             const char *text,
                             size_t len,
                             pupil_translation *translation);

// Translates `count` texts, and sentences of all of them together: text `i` has `lens[i]` bytes at `texts[i]`. What
// became of each, `pupil_translator_result` says.
pupil_status pupil_translate_batch(pupil_translator *translator,
                                   const char *const *texts,
                                   const size_t *lens,
                                   size_t count);

// What text `index` of the last call became. The `size` of `translation` must be set.
pupil_status pupil_translator_result(const pupil_translator *translator,
                                     size_t index,
                                     pupil_translation *translation);

// Frees a translator.
void pupil_translator_free(pupil_translator *translator);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PUPIL_H */
