package hearth.streams;

import java.io.IOException;
import java.util.List;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.serialization.Deserializer;

/**
 * Takes a meter reading out of Avro's single-object encoding: what is needed is read, the rest skipped, in the order
 * that the schema file gives. No value is boxed and no generic record made, which costs a generic reader most.
 *
 * <p>The fingerprint is skipped: Avro's Rust library takes it over a canonical form that keeps the braces around a
 * type whose logical type it has dropped, so it is not the one that this library finds for the same schema.
 */
final class ReadingDeserializer implements Deserializer<Reading> {
    private static final byte[] MARKER = {(byte) 0xC3, 0x01};

    /** Marker and fingerprint. */
    private static final int HEADER_BYTES = 10;

    /** All threads share one deserializer. */
    private final ThreadLocal<BinaryDecoder> decoders = new ThreadLocal<>();

    private final Schema[] fields;
    private final int ts;
    private final int measurement;
    private final Schema[] kinds;
    private final int meter;
    private final Schema[] meterFields;
    private final int consumption;

    ReadingDeserializer(Schema schema) {
        fields = types(schema);
        ts = position(schema, "ts_ms");
        measurement = position(schema, "measurement");
        List<Schema> union = fields[measurement].getTypes();
        kinds = union.toArray(Schema[]::new);
        meter = fields[measurement].getIndexNamed(schema.getNamespace() + ".Meter");
        meterFields = types(kinds[meter]);
        consumption = position(kinds[meter], "consumption_w");
    }

    /** Null for readings of other kinds: no slot counts them. */
    @Override
    public Reading deserialize(String topic, byte[] bytes) {
        if (bytes.length < HEADER_BYTES || bytes[0] != MARKER[0] || bytes[1] != MARKER[1]) {
            throw new SerializationException("not a single object");
        }
        int length = bytes.length - HEADER_BYTES;
        BinaryDecoder in = DecoderFactory.get().binaryDecoder(bytes, HEADER_BYTES, length, decoders.get());
        decoders.set(in);
        try {
            return read(in);
        } catch (IOException error) {
            throw new SerializationException("a damaged reading", error);
        }
    }

    private Reading read(BinaryDecoder in) throws IOException {
        long tsMs = 0;
        double consumptionW = Double.NaN;
        for (int field = 0; field < fields.length; field++) {
            if (field == ts) {
                tsMs = in.readLong();
            } else if (field == measurement) {
                int kind = in.readIndex();
                if (kind != meter) {
                    return null;
                }
                consumptionW = readMeter(in);
            } else {
                GenericDatumReader.skip(fields[field], in);
            }
        }
        return new Reading(tsMs, consumptionW);
    }

    private double readMeter(BinaryDecoder in) throws IOException {
        double consumptionW = Double.NaN;
        for (int field = 0; field < meterFields.length; field++) {
            if (field == consumption) {
                consumptionW = in.readDouble();
            } else {
                GenericDatumReader.skip(meterFields[field], in);
            }
        }
        return consumptionW;
    }

    private static Schema[] types(Schema record) {
        return record.getFields().stream().map(Schema.Field::schema).toArray(Schema[]::new);
    }

    private static int position(Schema record, String field) {
        return record.getField(field).pos();
    }
}
