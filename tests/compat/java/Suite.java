import java.io.PrintWriter;
import java.io.StringWriter;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

/**
 * Runs cases against a broker: Suite ADDRESS THREADS ONLY CLASS[:PROTOCOL]... Each case is a public method that takes a Bed. ONLY
 * is a comma-separated choice of names, or "all". Prints "PASS name seconds" or "FAIL name seconds reason" for each.
 */
public final class Suite {
    record Case(String name, Method method, Bed bed) {}

    public static void main(String[] args) throws Exception {
        List<String> only = args[2].equals("all") ? null : Arrays.asList(args[2].split(","));
        List<Case> cases = new ArrayList<>();
        for (String word : Arrays.copyOfRange(args, 3, args.length)) {
            String[] parts = word.split(":");
            String protocol = parts.length > 1 ? parts[1] : "classic";
            Class<?> type = Class.forName(parts[0]);
            Method[] methods = type.getDeclaredMethods();
            Arrays.sort(methods, Comparator.comparing(Method::getName));
            for (Method method : methods) {
                if (!Modifier.isPublic(method.getModifiers())) {
                    continue;
                }
                String name = (parts.length > 1 ? protocol + "." : "") + method.getName();
                if (only == null || only.contains(name)) {
                    cases.add(new Case(name, method, new Bed(args[0], protocol)));
                }
            }
        }
        ExecutorService pool = Executors.newFixedThreadPool(Integer.parseInt(args[1]));
        cases.forEach(each -> pool.execute(() -> run(each)));
        pool.shutdown();
        boolean ended = pool.awaitTermination(10, TimeUnit.MINUTES);
        System.out.println(ended ? "END" : "STUCK");
        System.exit(ended ? 0 : 1);
    }

    private static void run(Case each) {
        long began = System.nanoTime();
        String wrong = null;
        try (Bed bed = each.bed()) {
            each.method().invoke(null, bed);
        } catch (InvocationTargetException error) {
            wrong = story(error.getCause());
        } catch (Throwable error) {
            wrong = story(error);
        }
        String seconds = String.format("%.1f", (System.nanoTime() - began) / 1e9);
        System.out.println((wrong == null ? "PASS " : "FAIL ") + each.name() + " " + seconds + (wrong == null ? "" : " " + wrong));
    }

    /** The error with our own lines of its stack, on one line. */
    private static String story(Throwable error) {
        StringWriter text = new StringWriter();
        error.printStackTrace(new PrintWriter(text));
        StringBuilder told = new StringBuilder();
        for (String line : text.toString().split("\n")) {
            String bare = line.strip();
            if (!bare.startsWith("at ") || bare.contains("Cases.")) {
                told.append(bare).append(" | ");
            }
        }
        return told.toString();
    }
}
