package hearth.streams;

/** What the topology needs of one meter reading. */
record Reading(long tsMs, double consumptionW) {}
