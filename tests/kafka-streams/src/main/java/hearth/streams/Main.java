package hearth.streams;

import java.io.File;
import java.io.IOException;
import java.time.Duration;
import java.util.Properties;
import org.apache.avro.Schema;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;

/** Runs the topology until SIGTERM, then commits and ends with 0. Any failure ends it with 1. */
public final class Main {
    private static final String USAGE =
            "arguments: BROKERS INPUT_TOPIC OUTPUT_TOPIC APPLICATION_ID STATE_DIR eos|alo SCHEMA_FILE";
    private static final Duration CLOSE_LIMIT = Duration.ofSeconds(30);

    private Main() {}

    /** Starts the application that {@code arguments} describe. */
    public static void main(String[] arguments) throws IOException {
        if (arguments.length != 7) {
            System.err.println(USAGE);
            System.exit(2);
        }
        Properties settings = settings(arguments[0], arguments[3], arguments[4], arguments[5]);
        Schema schema = new Schema.Parser().parse(new File(arguments[6]));
        var streams = new KafkaStreams(Slots.topology(arguments[1], arguments[2], schema), settings);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            boolean closed = streams.close(CLOSE_LIMIT);
            // A JVM that a signal ends says 143 else, closed or not.
            Runtime.getRuntime().halt(closed ? 0 : 1);
        }));
        streams.start();
    }

    private static Properties settings(String brokers, String application, String stateDir, String mode) {
        var settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, stateDir);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        // How long a commit may wait. The defaults are 0.1 s for exactly once, which takes more processor time, and
        // 30 s for at least once, which takes a little less but would make a run end up to 30 s late.
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1_000);
        switch (mode) {
            case "eos" -> {
                settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
                settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
            }
            case "alo" -> {
                settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.AT_LEAST_ONCE);
                settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 10 * 1024 * 1024);
            }
            default -> throw new IllegalArgumentException(USAGE);
        }
        return settings;
    }
}
