/* Counts what a detector finds in the frames of a video or a camera: a line for each frame.
 *
 *   cc frames.c -lpupil -o frames
 *   ffmpeg -v error -i street.mp4 -f rawvideo -pix_fmt rgb24 - | ./frames detector.gguf 640 360 /dev/stdin
 */
#include <pupil.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST 50

static int failed(const char *what)
{
    fprintf(stderr, "frames: %s: %s\n", what, pupil_last_error());
    return 1;
}

/* Prints how many of each class are among what was found. */
static void print_counts(const pupil_detector *detector, const pupil_detection *found, size_t count)
{
    uint32_t classes = (uint32_t)pupil_detector_class_count(detector);
    for (uint32_t class_id = 0; class_id < classes; class_id++) {
        int seen = 0;
        for (size_t i = 0; i < count; i++)
            seen += found[i].class_id == class_id;
        if (seen > 0)
            printf("\t%d %s", seen, pupil_detector_class_name(detector, class_id));
    }
}

int main(int argc, char **argv)
{
    unsigned width, height;
    if (argc != 5 || sscanf(argv[2], "%u", &width) != 1 || sscanf(argv[3], "%u", &height) != 1) {
        fprintf(stderr, "usage: frames DETECTOR.gguf WIDTH HEIGHT FRAMES\n");
        return 1;
    }
    pupil_detect_options options;
    if (pupil_detect_options_init(&options, sizeof options) != PUPIL_OK)
        return failed("cannot set the options");
    options.confidence = 0.6f;
    options.max = MOST;

    pupil_detector *detector = NULL;
    if (pupil_detector_open(argv[1], &options, &detector) != PUPIL_OK)
        return failed("cannot open the detector");

    size_t stride = 3 * (size_t)width; /* frames of a camera may have longer rows */
    unsigned char *frame = calloc(height, stride);
    FILE *frames = fopen(argv[4], "rb");
    pupil_status status = PUPIL_OK;
    if (frame == NULL || frames == NULL) {
        perror("frames: cannot read the frames");
        status = PUPIL_ERROR_IO;
    }
    for (size_t i = 0; status == PUPIL_OK && fread(frame, stride, height, frames) == height; i++) {
        pupil_detection found[MOST];
        size_t count = 0;
        status = pupil_detect_rgb(detector, frame, width, height, stride, found, MOST, &count);
        if (status != PUPIL_OK) {
            failed("cannot look at the frame");
        } else {
            printf("%zu", i);
            print_counts(detector, found, count); /* no more than options.max */
            putchar('\n');
        }
    }
    if (frames != NULL)
        fclose(frames);
    free(frame);
    pupil_detector_free(detector);
    return status == PUPIL_OK ? 0 : 1;
}
