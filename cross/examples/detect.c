/* Prints what a detector finds in a picture: a line with score, class and box for each object.
 *
 *   cc detect.c -lpupil -o detect && ./detect detector.gguf street.jpg
 */
#include <pupil.h>
#include <stdio.h>

#define MOST 100

static int failed(const char *what)
{
    fprintf(stderr, "detect: %s: %s\n", what, pupil_last_error());
    return 1;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: detect DETECTOR.gguf PICTURE\n");
        return 1;
    }
    pupil_detector *detector = NULL;
    if (pupil_detector_open(argv[1], NULL, &detector) != PUPIL_OK)
        return failed("cannot open the detector");

    pupil_detection found[MOST];
    size_t count = 0;
    pupil_status status = pupil_detect_file(detector, argv[2], found, MOST, &count);
    if (status == PUPIL_OK) {
        for (size_t i = 0; i < count && i < MOST; i++)
            printf("%.2f %s %.0f %.0f %.0f %.0f\n", found[i].score,
                   pupil_detector_class_name(detector, found[i].class_id),
                   found[i].x0, found[i].y0, found[i].x1, found[i].y1);
    } else {
        failed("cannot look at the picture");
    }
    pupil_detector_free(detector);
    return status == PUPIL_OK ? 0 : 1;
}
