package io.resilver.check;

import io.oxia.client.api.AsyncOxiaClient;
import io.oxia.client.api.CloseableIterable;
import io.oxia.client.api.GetResult;
import io.oxia.client.api.OxiaClientBuilder;
import io.oxia.client.api.PutResult;
import io.oxia.client.api.SyncOxiaClient;
import io.oxia.client.api.exceptions.KeyAlreadyExistsException;
import io.oxia.client.api.exceptions.UnexpectedVersionIdException;
import io.oxia.client.api.options.DeleteOption;
import io.oxia.client.api.options.GetOption;
import io.oxia.client.api.options.ListOption;
import io.oxia.client.api.options.PutOption;
import io.oxia.client.api.options.RangeScanOption;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/**
 * Drives a store with Oxia's own client. Arguments: address, namespace. Prints one line per check, `pass
 * NAME` or `fail NAME: WHY`, and exits with 0 when all passed. The store must be empty.
 */
public final class Check {
  private static final int MANY = 5_000;
  private static final int MANY_BYTES = 1_024;
  private static final int LARGE_BYTES = 1_024 * 1_024;

  private final SyncOxiaClient client;
  private final AsyncOxiaClient async;

  private Check(SyncOxiaClient client, AsyncOxiaClient async) {
    this.client = client;
    this.async = async;
  }

  /** One thing to check; anything thrown fails it. */
  private interface Body {
    void run() throws Exception;
  }

  public static void main(String[] arguments) throws Exception {
    boolean ok = true;
    try (SyncOxiaClient sync = builder(arguments).syncClient();
        AsyncOxiaClient async = builder(arguments).asyncClient().get(30, TimeUnit.SECONDS)) {
      for (Map.Entry<String, Body> check : new Check(sync, async).checks().entrySet()) {
        ok &= passes(check.getKey(), check.getValue());
      }
    }
    // The client's own threads may still run.
    System.exit(ok ? 0 : 1);
  }

  private static OxiaClientBuilder builder(String[] arguments) {
    return OxiaClientBuilder.create(arguments[0])
        .namespace(arguments[1])
        .requestTimeout(Duration.ofSeconds(10));
  }

  private static boolean passes(String name, Body body) {
    try {
      body.run();
      System.out.println("pass " + name);
      return true;
    } catch (Throwable thrown) {
      System.out.println("fail " + name + ": " + String.valueOf(thrown).replace('\n', ' '));
      return false;
    }
  }

  private Map<String, Body> checks() {
    Map<String, Body> checks = new LinkedHashMap<>();
    checks.put("puts and gets", this::putsAndGets);
    checks.put("an absent key is absent", this::absentKey);
    checks.put("conditional puts", this::conditionalPuts);
    checks.put("deletes", this::deletes);
    checks.put("lists the children of a path", this::lists);
    checks.put("scans a range in order", this::scans);
    checks.put("deletes a range", this::deletesRange);
    checks.put("finds neighbours of a key", this::neighbours);
    checks.put("routes by partition key", this::partitionKey);
    checks.put("a value of 1 MiB", this::largeValue);
    checks.put(MANY + " puts at once, all read back", this::manyAtOnce);
    return checks;
  }

  private void putsAndGets() throws Exception {
    PutResult first = client.put("greeting", bytes("hello"));
    equal(0L, first.version().modificationsCount(), "modifications of a new record");
    PutResult second = client.put("greeting", bytes("hello again"));
    equal(1L, second.version().modificationsCount(), "modifications of a changed record");
    isTrue(second.version().versionId() > first.version().versionId(), "version ids grow");
    GetResult got = client.get("greeting");
    equal("greeting", got.key(), "key");
    equal("hello again", text(got), "value");
    equal(second.version().versionId(), got.version().versionId(), "version id");
    equal(first.version().createdTimestamp(), got.version().createdTimestamp(), "created");
    isTrue(got.version().modifiedTimestamp() >= got.version().createdTimestamp(), "modified");
    client.put("empty", new byte[0]);
    equal(0, client.get("empty").value().length, "length of an empty value");
  }

  private void absentKey() {
    equal(null, client.get("nothing-here"), "record");
    equal(false, client.delete("nothing-here"), "deleted");
  }

  private void conditionalPuts() throws Exception {
    Set<PutOption> absent = Set.of(PutOption.IfRecordDoesNotExist);
    PutResult created = client.put("once", bytes("1"), absent);
    throwsException(
        KeyAlreadyExistsException.class, () -> client.put("once", bytes("2"), absent));
    long version = created.version().versionId();
    throwsException(
        UnexpectedVersionIdException.class,
        () -> client.put("once", bytes("3"), Set.of(PutOption.IfVersionIdEquals(version + 1_000))));
    client.put("once", bytes("4"), Set.of(PutOption.IfVersionIdEquals(version)));
    equal("4", text(client.get("once")), "value");
  }

  private void deletes() throws Exception {
    long version = client.put("gone", bytes("1")).version().versionId();
    throwsException(
        UnexpectedVersionIdException.class,
        () -> client.delete("gone", Set.of(DeleteOption.IfVersionIdEquals(version + 1_000))));
    equal(true, client.delete("gone", Set.of(DeleteOption.IfVersionIdEquals(version))), "deleted");
    equal(null, client.get("gone"), "record");
    equal(false, client.delete("gone"), "deleted twice");
  }

  private void lists() {
    for (String key : List.of("/l/b", "/l/a", "/l/c/deep", "/l/d", "/m")) {
      client.put(key, bytes(key));
    }
    equal(List.of("/l/a", "/l/b", "/l/d"), sorted(client.list("/l/", "/l//")), "children");
    equal(List.of("/l/c/deep"), client.list("/l/c/", "/l/c//"), "grandchildren");
    equal(List.of(), client.list("/none/", "/none//"), "children of nothing");
  }

  private void scans() throws Exception {
    List<String> expected = new ArrayList<>();
    List<CompletableFuture<PutResult>> puts = new ArrayList<>();
    for (int number = 0; number < 2_500; number++) {
      String key = "/s/%05d".formatted(number);
      expected.add(key);
      puts.add(async.put(key, bytes("value of " + key), Set.of(PutOption.PartitionKey("s"))));
    }
    CompletableFuture.allOf(puts.toArray(CompletableFuture[]::new)).get(30, TimeUnit.SECONDS);
    client.put("/s/elsewhere", bytes("value of /s/elsewhere"));
    equal(expected, scanned(Set.of(RangeScanOption.PartitionKey("s"))).subList(0, 2_500), "in order");
    // Over several shards this client gives them as they come.
    expected.add("/s/elsewhere");
    equal(expected, sorted(scanned(Set.of())), "in all shards");
  }

  private List<String> scanned(Set<RangeScanOption> options) {
    List<String> keys = new ArrayList<>();
    try (CloseableIterable<GetResult> records = client.rangeScan("/s/", "/s//", options)) {
      for (GetResult record : records) {
        keys.add(record.key());
        equal("value of " + record.key(), text(record), "value");
      }
    }
    return keys;
  }

  private void deletesRange() {
    for (int number = 0; number < 20; number++) {
      client.put("/r/%02d".formatted(number), bytes("x"));
    }
    client.deleteRange("/r/05", "/r/15");
    List<String> left = sorted(client.list("/r/", "/r//"));
    equal(10, left.size(), "records left");
    equal("/r/04", left.get(4), "last before the range");
    equal("/r/15", left.get(5), "first after the range");
  }

  private void neighbours() throws Exception {
    // One partition, so that all of them are in one shard.
    Set<PutOption> here = Set.of(PutOption.PartitionKey("n"));
    for (String key : List.of("n-b", "n-d", "n-f")) {
      client.put(key, bytes(key), here);
    }
    equal("n-d", neighbour("n-d", GetOption.ComparisonEqual), "equal");
    equal("n-d", neighbour("n-e", GetOption.ComparisonFloor), "floor");
    equal("n-d", neighbour("n-d", GetOption.ComparisonFloor), "floor of a key that is there");
    equal("n-f", neighbour("n-e", GetOption.ComparisonCeiling), "ceiling");
    equal("n-b", neighbour("n-d", GetOption.ComparisonLower), "lower");
    equal("n-f", neighbour("n-d", GetOption.ComparisonHigher), "higher");
  }

  private String neighbour(String key, GetOption comparison) {
    GetResult found = client.get(key, Set.of(comparison, GetOption.PartitionKey("n")));
    return found == null ? null : found.key();
  }

  private void partitionKey() throws Exception {
    client.put("p-1", bytes("one"), Set.of(PutOption.PartitionKey("p")));
    client.put("p-2", bytes("two"), Set.of(PutOption.PartitionKey("p")));
    GetResult got = client.get("p-2", Set.of(GetOption.PartitionKey("p")));
    equal("two", text(got), "value");
    List<String> keys = client.list("p-", "p-~", Set.of(ListOption.PartitionKey("p")));
    equal(List.of("p-1", "p-2"), keys, "keys of the partition");
    List<String> scanned = new ArrayList<>();
    try (CloseableIterable<GetResult> records =
        client.rangeScan("p-", "p-~", Set.of(RangeScanOption.PartitionKey("p")))) {
      records.forEach(record -> scanned.add(text(record)));
    }
    equal(List.of("one", "two"), scanned, "values of the partition");
  }

  private void largeValue() {
    byte[] value = new byte[LARGE_BYTES];
    new Random(1).nextBytes(value);
    client.put("large", value);
    isTrue(Arrays.equals(value, client.get("large").value()), "the same bytes");
  }

  private void manyAtOnce() throws Exception {
    List<CompletableFuture<PutResult>> puts = new ArrayList<>();
    for (int number = 0; number < MANY; number++) {
      puts.add(async.put("many-" + number, numbered(number)));
    }
    CompletableFuture.allOf(puts.toArray(CompletableFuture[]::new)).get(30, TimeUnit.SECONDS);
    List<CompletableFuture<GetResult>> gets = new ArrayList<>();
    for (int number = 0; number < MANY; number++) {
      gets.add(async.get("many-" + number));
    }
    for (int number = 0; number < MANY; number++) {
      byte[] value = gets.get(number).get(30, TimeUnit.SECONDS).value();
      isTrue(Arrays.equals(numbered(number), value), "value of many-" + number);
    }
  }

  private static byte[] numbered(int number) {
    byte[] value = new byte[MANY_BYTES];
    new Random(number).nextBytes(value);
    return value;
  }

  private static byte[] bytes(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  private static String text(GetResult record) {
    return new String(record.value(), StandardCharsets.UTF_8);
  }

  private static List<String> sorted(List<String> keys) {
    return keys.stream().sorted().toList();
  }

  private static void equal(Object expected, Object actual, String what) {
    isTrue(
        Objects.equals(expected, actual), what + ": expected " + expected + ", got " + actual);
  }

  private static void isTrue(boolean condition, String what) {
    if (!condition) {
      throw new IllegalStateException("not so: " + what);
    }
  }

  private static void throwsException(Class<? extends Exception> type, Body body) {
    try {
      body.run();
    } catch (Exception thrown) {
      isTrue(type.isInstance(thrown), type.getSimpleName() + ", got " + thrown);
      return;
    }
    throw new IllegalStateException("not so: " + type.getSimpleName() + ", nothing was thrown");
  }
}
