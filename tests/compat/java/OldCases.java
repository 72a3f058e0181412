import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;

/** What only old clients have. */
public final class OldCases {
    @SuppressWarnings("deprecation")
    public static void alterConfigsReplacesAll(Bed bed) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, bed.topic("replace", 1));
        Config first = new Config(List.of(new ConfigEntry("retention.ms", "3600000"), new ConfigEntry("segment.ms", "7200000")));
        Bed.get(bed.admin.alterConfigs(Map.of(resource, first)).all());
        Config now = Bed.get(bed.admin.describeConfigs(List.of(resource)).all()).get(resource);
        Bed.same("3600000", now.get("retention.ms").value(), "what was set");
        Bed.get(bed.admin.alterConfigs(Map.of(resource, new Config(List.of(new ConfigEntry("segment.ms", "7300000"))))).all());
        now = Bed.get(bed.admin.describeConfigs(List.of(resource)).all()).get(resource);
        Bed.same("604800000", now.get("retention.ms").value(), "what was left out is the default again");
        Bed.same("7300000", now.get("segment.ms").value(), "what was named");
        Config wrong = new Config(List.of(new ConfigEntry("retention.ms", "soon")));
        Bed.fails(InvalidConfigurationException.class, bed.admin.alterConfigs(Map.of(resource, wrong)).all());
    }
}
