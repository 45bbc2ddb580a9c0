package hearth.streams;

import java.nio.ByteBuffer;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serializer;

/** Numbers of eight bytes, big endian, one after the other. */
final class SlotSerde implements Serde<Slot> {
    private static final int STORED_BYTES = 32;
    private static final int OUTPUT_BYTES = 40;

    @Override
    public Serializer<Slot> serializer() {
        return (topic, slot) -> slot == null ? null : write(slot, STORED_BYTES).array();
    }

    @Override
    public Deserializer<Slot> deserializer() {
        return (topic, bytes) -> bytes == null ? null : read(bytes);
    }

    /** With the start of the window behind, for whoever reads the topic. */
    static Serializer<Slot> output() {
        return (topic, slot) -> write(slot, OUTPUT_BYTES).putLong(slot.startMs).array();
    }

    private static ByteBuffer write(Slot slot, int bytes) {
        ByteBuffer buffer = ByteBuffer.allocate(bytes);
        return buffer.putDouble(slot.sum).putLong(slot.count).putDouble(slot.min).putDouble(slot.max);
    }

    private static Slot read(byte[] bytes) {
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        Slot slot = new Slot();
        slot.sum = buffer.getDouble();
        slot.count = buffer.getLong();
        slot.min = buffer.getDouble();
        slot.max = buffer.getDouble();
        return slot;
    }
}
