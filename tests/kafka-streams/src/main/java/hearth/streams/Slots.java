package hearth.streams;

import java.time.Duration;
import org.apache.avro.Schema;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.TimestampExtractor;
import org.apache.kafka.streams.state.WindowStore;

/** The topology: readings of a home into slots of a quarter of an hour, every update of a slot into the output. */
final class Slots {
    private static final Duration SLOT = Duration.ofMinutes(15);
    private static final Duration GRACE = Duration.ofMinutes(15);

    private Slots() {}

    static Topology topology(String input, String output, Schema schema) {
        // A home's key passes through as it is: nothing reads it as text.
        Serde<Bytes> homes = Serdes.Bytes();
        SlotSerde slots = new SlotSerde();
        Serde<Reading> readings = Serdes.serdeFrom(Slots::refuse, new ReadingDeserializer(schema));
        TimestampExtractor eventTime =
                (message, partitionTime) -> message.value() instanceof Reading reading ? reading.tsMs() : partitionTime;
        var builder = new StreamsBuilder();
        builder.stream(input, Consumed.with(homes, readings).withTimestampExtractor(eventTime))
                .groupByKey(Grouped.with(homes, readings))
                .windowedBy(TimeWindows.ofSizeAndGrace(SLOT, GRACE))
                .aggregate(
                        Slot::new,
                        (home, reading, slot) -> slot.add(reading.consumptionW()),
                        Materialized.<Bytes, Slot, WindowStore<Bytes, byte[]>>as("slots")
                                .withKeySerde(homes)
                                .withValueSerde(slots))
                .toStream()
                .map((window, slot) -> KeyValue.pair(
                        window.key(), slot.startingAt(window.window().start())))
                .to(output, Produced.with(homes, Serdes.serdeFrom(SlotSerde.output(), slots.deserializer())));
        return builder.build();
    }

    private static byte[] refuse(String topic, Reading reading) {
        throw new UnsupportedOperationException("readings are only read");
    }
}
