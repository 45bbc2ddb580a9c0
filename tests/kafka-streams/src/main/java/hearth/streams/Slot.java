package hearth.streams;

/** The aggregate of one home's readings in one window. Changed in place: every update reads its own copy. */
final class Slot {
    double sum;
    long count;
    double min = Double.POSITIVE_INFINITY;
    double max = Double.NEGATIVE_INFINITY;

    /** Start of the window; the store's key holds it too, so only the output writes it. */
    long startMs;

    Slot add(double consumptionW) {
        sum += consumptionW;
        count += 1;
        min = Math.min(min, consumptionW);
        max = Math.max(max, consumptionW);
        return this;
    }

    Slot startingAt(long windowStartMs) {
        startMs = windowStartMs;
        return this;
    }
}
