-- What nodes keep in PostgreSQL. {s} is the schema's name.
--
-- Every message is a row of one log, numbered densely by seq. All who change the log or
-- a topic lock {s}.state first, so they commit in the order of seq, offsets are dense,
-- and nobody waits in a circle. NOTIFY takes a lock of all databases at commit anyway.

-- IF NOT EXISTS would ask for the right to create one even where it is there.
DO $$ BEGIN
  IF to_regnamespace('{s}') IS NULL THEN
    CREATE SCHEMA {s};
  END IF;
END $$;

CREATE TABLE {s}.state (
  is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
  head bigint NOT NULL DEFAULT 0,  -- seq of the last message
  swept bigint NOT NULL DEFAULT 0,  -- up to here only histories are complete
  swept_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);

CREATE TABLE {s}.topic (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- of one life of the topic
  name text COLLATE "C" NOT NULL UNIQUE,
  epoch text NOT NULL,
  life text NOT NULL,  -- of the database, when this life of the topic began
  last bigint NOT NULL DEFAULT 0,  -- offset
  kept_from bigint NOT NULL DEFAULT 1,  -- offset from which on all are history
  kept_bytes bigint NOT NULL DEFAULT 0,
  kept_until timestamptz,  -- no message of the history lives longer
  unused_at timestamptz NOT NULL  -- forgotten then
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX ON {s}.topic (unused_at);

CREATE TABLE {s}.message (
  seq bigint PRIMARY KEY,
  topic_id bigint NOT NULL,  -- 0: news
  off bigint NOT NULL,
  size integer NOT NULL,
  at timestamptz NOT NULL,
  expires timestamptz,  -- never before those with lower offsets; NULL: no history
  body bytea NOT NULL,
  UNIQUE (topic_id, off)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX ON {s}.message (expires) WHERE expires IS NOT NULL;

CREATE TABLE {s}.published (
  topic text COLLATE "C" NOT NULL,
  message_id bytea NOT NULL,
  epoch text NOT NULL,
  off bigint NOT NULL,
  expires timestamptz NOT NULL,
  PRIMARY KEY (topic, message_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX ON {s}.published (expires);

CREATE TABLE {s}.node (id text PRIMARY KEY, expires timestamptz NOT NULL);

CREATE TABLE {s}.member (
  topic text COLLATE "C" NOT NULL,
  client_id bytea NOT NULL,
  node text NOT NULL,  -- it is there for as long as its node is
  joined timestamptz NOT NULL,
  body bytea NOT NULL,
  PRIMARY KEY (topic, client_id)
);
CREATE INDEX ON {s}.member (node);

CREATE TABLE {s}.outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  topic text NOT NULL,
  payload bytea NOT NULL,
  is_text boolean NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02);

CREATE FUNCTION {s}.version() RETURNS integer
LANGUAGE sql IMMUTABLE AS 'SELECT 1';

-- Which writes this database may be missing: another cluster or table (a restored
-- dump), another timeline (a promoted replica, a point in time), or, where nothing is
-- forced to disk, another start of the server.
CREATE FUNCTION {s}.life() RETURNS text LANGUAGE sql STABLE AS $$
  SELECT md5(concat_ws(' ', (SELECT system_identifier FROM pg_control_system()),
    left(pg_walfile_name(pg_current_wal_insert_lsn()), 8),
    '{s}.topic'::regclass::oid,
    CASE current_setting('fsync') WHEN 'off' THEN pg_postmaster_start_time() END))
$$;

CREATE FUNCTION {s}.lock() RETURNS {s}.state LANGUAGE plpgsql AS $$
DECLARE found_state {s}.state;
BEGIN
  SELECT * INTO found_state FROM {s}.state FOR UPDATE;
  IF NOT FOUND THEN  -- it was truncated: what nodes know of the log is void
    INSERT INTO {s}.state (head, swept)
      SELECT coalesce(max(seq), 0) + 1, coalesce(max(seq), 0) + 1 FROM {s}.message
      ON CONFLICT DO NOTHING;
    SELECT * INTO STRICT found_state FROM {s}.state FOR UPDATE;
  END IF;
  RETURN found_state;
END $$;

-- Return a topic that may be written to. It begins a new life if the database does, or
-- if somebody has seen more of it than there is: its end was lost after all.
CREATE FUNCTION {s}.open_topic(a_name text, a_life text, keep_s double precision,
  seen_epoch text, seen_off bigint) RETURNS {s}.topic LANGUAGE plpgsql AS $$
DECLARE
  t {s}.topic;
  clock timestamptz := clock_timestamp();
BEGIN
  SELECT * INTO t FROM {s}.topic WHERE name = a_name;
  IF FOUND AND (t.life <> a_life OR (t.epoch = seen_epoch AND t.last < seen_off)) THEN
    DELETE FROM {s}.message WHERE topic_id = t.id;
    DELETE FROM {s}.topic WHERE id = t.id;
    t := NULL;
  END IF;
  IF t.id IS NULL THEN
    INSERT INTO {s}.topic (name, epoch, life, unused_at)
      VALUES (a_name, replace(gen_random_uuid()::text, '-', ''), a_life,
        clock + make_interval(secs => keep_s)) RETURNING * INTO t;
  ELSIF t.unused_at < clock + make_interval(secs => keep_s / 2) THEN
    UPDATE {s}.topic SET unused_at = clock + make_interval(secs => keep_s)
      WHERE id = t.id RETURNING * INTO t;
  END IF;
  RETURN t;
END $$;

CREATE FUNCTION {s}.open_topics(names text[], keeps_s double precision[],
  seen_epochs text[], seen_offs bigint[])
RETURNS TABLE (epoch text, last bigint, head bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  s {s}.state := {s}.lock();
  a_life text := {s}.life();
  t {s}.topic;
BEGIN
  -- What a crash may forget here, it says by a new epoch.
  PERFORM set_config('synchronous_commit', 'off', true);
  FOR i IN 1 .. cardinality(names) LOOP
    t := {s}.open_topic(names[i], a_life, keeps_s[i], seen_epochs[i], seen_offs[i]);
    RETURN QUERY SELECT t.epoch, t.last, s.head;
  END LOOP;
END $$;

-- Publish a batch, sorted by topic. What history has no room for is deleted at once if
-- all nodes have had their time to read it, else when it is swept.
CREATE FUNCTION {s}.append(topics text[], bodies bytea[], sizes integer[],
  history_sizes bigint[], history_bytes bigint[], ttls_s double precision[],
  keeps_s double precision[], message_ids bytea[], remember_s double precision)
RETURNS TABLE (epoch text, off bigint, is_duplicate boolean) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  s {s}.state := {s}.lock();
  a_life text := {s}.life();
  clock timestamptz := clock_timestamp();
  t {s}.topic;
  item record;
  known record;
  until timestamptz;
  a_seq bigint := s.head;
BEGIN
  DELETE FROM {s}.message WHERE seq > s.head;  -- no node has written it
  FOR item IN SELECT * FROM unnest(topics, bodies, sizes, history_sizes,
    history_bytes, ttls_s, keeps_s, message_ids)
    AS u(topic, body, size, max_count, max_bytes, ttl_s, keep_s, message_id)
  LOOP
    IF t.name IS DISTINCT FROM item.topic THEN
      t := {s}.open_topic(item.topic, a_life, item.keep_s, NULL, 0);
    END IF;
    IF item.message_id IS NOT NULL THEN
      SELECT p.epoch, p.off INTO known FROM {s}.published p WHERE p.topic = item.topic
        AND p.message_id = item.message_id AND p.expires > clock;
      IF FOUND THEN
        RETURN QUERY SELECT known.epoch, known.off, true;
        CONTINUE;
      END IF;
    END IF;
    t.last := t.last + 1;
    a_seq := a_seq + 1;
    until := NULL;
    IF item.max_count > 0 THEN
      until := greatest(t.kept_until, clock + make_interval(secs => item.ttl_s));
    END IF;
    INSERT INTO {s}.message (seq, topic_id, off, size, at, expires, body)
      VALUES (a_seq, t.id, t.last, item.size, clock, until, item.body)
      ON CONFLICT (topic_id, off) DO UPDATE SET seq = excluded.seq,
        size = excluded.size, at = excluded.at, expires = excluded.expires,
        body = excluded.body;
    t.kept_bytes := t.kept_bytes + item.size;
    WHILE t.kept_from <= t.last AND (t.last - t.kept_from >= item.max_count
      OR t.kept_bytes > item.max_bytes)
    LOOP
      SELECT m.size, m.seq INTO known FROM {s}.message m
        WHERE m.topic_id = t.id AND m.off = t.kept_from;
      DELETE FROM {s}.message WHERE seq = known.seq AND seq <= s.swept;
      t.kept_bytes := t.kept_bytes - coalesce(known.size, 0);
      t.kept_from := t.kept_from + 1;
    END LOOP;
    IF t.kept_from > t.last THEN
      t.kept_bytes := 0;
      until := NULL;
    END IF;
    t.kept_until := until;
    UPDATE {s}.topic SET last = t.last, kept_from = t.kept_from,
      kept_bytes = t.kept_bytes, kept_until = t.kept_until WHERE id = t.id;
    IF item.message_id IS NOT NULL THEN
      INSERT INTO {s}.published VALUES (item.topic, item.message_id, t.epoch, t.last,
        clock + make_interval(secs => remember_s))
        ON CONFLICT (topic, message_id) DO UPDATE
        SET epoch = excluded.epoch, off = excluded.off, expires = excluded.expires;
    END IF;
    RETURN QUERY SELECT t.epoch, t.last, false;
  END LOOP;
  IF a_seq > s.head THEN
    UPDATE {s}.state SET head = a_seq;
    PERFORM pg_notify('{channel}', '');
  END IF;
END $$;

-- Have all nodes hear something.
CREATE FUNCTION {s}.tell(news bytea) RETURNS void LANGUAGE plpgsql AS $$
DECLARE s {s}.state := {s}.lock();
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  DELETE FROM {s}.message WHERE seq > s.head;
  INSERT INTO {s}.message (seq, topic_id, off, size, at, body)
    VALUES (s.head + 1, 0, s.head + 1, length(news), clock_timestamp(), news)
    ON CONFLICT (topic_id, off) DO UPDATE SET seq = excluded.seq,
      at = excluded.at, body = excluded.body;
  UPDATE {s}.state SET head = s.head + 1;
  PERFORM pg_notify('{channel}', '');
END $$;

-- Return what is kept of a topic after a position, or after the beginning of its life
-- if it is of another one. No row: nothing is remembered. STABLE, so all that it reads
-- is of one moment.
CREATE FUNCTION {s}.history(a_topic text, seen_epoch text, seen_off bigint,
  max_count bigint, is_reverse boolean)
RETURNS TABLE (epoch text, last bigint, kept_from bigint, head bigint, off bigint,
  body bytea) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
  t {s}.topic;
  a_head bigint;
  first_off bigint;
BEGIN
  SELECT * INTO t FROM {s}.topic WHERE name = a_topic AND life = {s}.life();
  IF NOT FOUND THEN RETURN; END IF;
  SELECT s.head INTO a_head FROM {s}.state s;
  SELECT min(m.off) INTO first_off FROM {s}.message m WHERE m.topic_id = t.id
    AND m.off BETWEEN t.kept_from AND t.last AND m.expires > clock_timestamp();
  first_off := coalesce(first_off, t.last + 1);
  RETURN QUERY SELECT t.epoch, t.last, first_off, a_head, NULL::bigint, NULL::bytea;
  first_off := greatest(first_off,
    CASE WHEN seen_epoch = t.epoch THEN seen_off + 1 ELSE 1 END);
  IF is_reverse THEN
    RETURN QUERY SELECT t.epoch, t.last, 0::bigint, a_head, m.off, m.body
      FROM {s}.message m WHERE m.topic_id = t.id AND m.off BETWEEN first_off AND t.last
      ORDER BY m.off DESC LIMIT max_count;
  ELSE
    RETURN QUERY SELECT t.epoch, t.last, 0::bigint, a_head, m.off, m.body
      FROM {s}.message m WHERE m.topic_id = t.id AND m.off BETWEEN first_off AND t.last
      ORDER BY m.off LIMIT max_count;
  END IF;
END $$;

CREATE FUNCTION {s}.clear(a_topic text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  s {s}.state := {s}.lock();
  t {s}.topic;
BEGIN
  SELECT * INTO t FROM {s}.topic WHERE name = a_topic;
  DELETE FROM {s}.message WHERE topic_id = t.id AND off >= t.kept_from
    AND seq <= s.swept;
  UPDATE {s}.topic SET kept_from = last + 1, kept_bytes = 0, kept_until = NULL
    WHERE id = t.id;
END $$;

-- Delete what nobody needs any more, in small batches. Returns whether there is more.
CREATE FUNCTION {s}.sweep(linger_s double precision, every_s double precision,
  max_count integer) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  s {s}.state := {s}.lock();
  clock timestamptz := clock_timestamp();
  upto bigint;
  found bigint;
  gone bigint;
  is_more boolean := false;
  t {s}.topic;
  n record;
BEGIN
  IF s.swept_at > clock - make_interval(secs => every_s) THEN
    RETURN false;  -- another node has just done so
  END IF;
  PERFORM set_config('synchronous_commit', 'off', true);
  -- What all nodes have had time to read, and no history keeps.
  SELECT max(x.seq), count(*) INTO upto, gone FROM (
    SELECT m.seq, m.at FROM {s}.message m WHERE m.seq > s.swept ORDER BY m.seq
    LIMIT max_count) x WHERE x.at < clock - make_interval(secs => linger_s);
  IF upto IS NOT NULL THEN
    DELETE FROM {s}.message m WHERE m.seq > s.swept AND m.seq <= upto
      AND NOT EXISTS (SELECT FROM {s}.topic WHERE id = m.topic_id
        AND m.off >= kept_from);
    s.swept := least(upto, s.head);
    is_more := gone = max_count;
  END IF;
  -- Histories whose time is over.
  FOR t IN SELECT * FROM {s}.topic WHERE id IN (SELECT m.topic_id FROM {s}.message m
    WHERE m.expires <= clock AND m.seq <= s.swept ORDER BY m.expires LIMIT max_count)
  LOOP
    SELECT min(m.off) INTO upto FROM {s}.message m WHERE m.topic_id = t.id
      AND m.off >= t.kept_from AND m.expires > clock;
    upto := least(coalesce(upto, t.last + 1), t.kept_from + max_count);
    SELECT coalesce(sum(m.size), 0) INTO gone FROM {s}.message m
      WHERE m.topic_id = t.id AND m.off >= t.kept_from AND m.off < upto;
    DELETE FROM {s}.message WHERE topic_id = t.id AND off < upto AND seq <= s.swept;
    UPDATE {s}.topic SET kept_from = upto, kept_bytes = t.kept_bytes - gone
      WHERE id = t.id;
    is_more := is_more OR upto = t.kept_from + max_count;
  END LOOP;
  -- Topics that nobody uses.
  WITH ended AS (DELETE FROM {s}.topic WHERE id IN (SELECT id FROM {s}.topic
    WHERE unused_at < clock ORDER BY unused_at LIMIT max_count) RETURNING id)
  DELETE FROM {s}.message WHERE topic_id IN (SELECT id FROM ended) AND seq <= s.swept;
  DELETE FROM {s}.published WHERE (topic, message_id) IN (SELECT topic, message_id
    FROM {s}.published WHERE expires < clock ORDER BY expires LIMIT max_count);
  GET DIAGNOSTICS found = ROW_COUNT;
  is_more := is_more OR found = max_count;
  FOR n IN SELECT id FROM {s}.node WHERE expires < clock LOOP
    DELETE FROM {s}.member WHERE (topic, client_id) IN (SELECT topic, client_id
      FROM {s}.member WHERE node = n.id LIMIT max_count);
    GET DIAGNOSTICS found = ROW_COUNT;
    is_more := is_more OR found = max_count;
    IF found < max_count THEN
      DELETE FROM {s}.node WHERE id = n.id AND expires < clock;
    END IF;
  END LOOP;
  UPDATE {s}.state SET swept = s.swept,
    swept_at = CASE WHEN is_more THEN s.swept_at ELSE clock END;
  RETURN is_more;
END $$;

-- Renew a node's lease. Returns how many members it has.
CREATE FUNCTION {s}.renew(a_node text, lease_s double precision) RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  INSERT INTO {s}.node VALUES (a_node, clock_timestamp() + make_interval(secs => lease_s))
    ON CONFLICT (id) DO UPDATE SET expires = excluded.expires;
  RETURN (SELECT count(*) FROM {s}.member WHERE node = a_node);
END $$;

-- Add members of a node, or bring back those that were forgotten. Those of another node
-- that is there stay what they are, unless they are entered anew (no time given).
CREATE FUNCTION {s}.enter(a_node text, topics text[], client_ids bytea[],
  bodies bytea[], times timestamptz[])
RETURNS TABLE (is_new boolean, joined timestamptz) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  item record;
  known record;
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  FOR item IN SELECT * FROM unnest(topics, client_ids, bodies, times)
    AS u(topic, client_id, body, joined)
  LOOP
    SELECT m.node, m.joined INTO known FROM {s}.member m JOIN {s}.node n
      ON n.id = m.node AND n.expires > clock_timestamp()
      WHERE m.topic = item.topic AND m.client_id = item.client_id;
    IF known.node IS NULL OR item.joined IS NULL OR known.node = a_node THEN
      INSERT INTO {s}.member VALUES (item.topic, item.client_id, a_node,
        coalesce(known.joined, item.joined, clock_timestamp()), item.body)
        ON CONFLICT (topic, client_id) DO UPDATE SET node = excluded.node,
          joined = excluded.joined, body = excluded.body
        RETURNING joined INTO known.joined;
    END IF;
    RETURN QUERY SELECT known.node IS NULL, known.joined;
  END LOOP;
END $$;

-- For applications: publish when this transaction commits, and not if it does not.
-- Without wake a node looks for it within its heartbeat, and the commit takes no lock
-- that is shared with other transactions that notify.
-- The path is set, or functions that others have made in one of the application's
-- schemas could be called instead of PostgreSQL's.
CREATE FUNCTION {s}.publish(topic text, payload bytea, wake boolean DEFAULT true)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM {s}.send(topic, payload, false, wake);
END $$;

CREATE FUNCTION {s}.publish(topic text, payload text, wake boolean DEFAULT true)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM {s}.send(topic, convert_to(payload, 'UTF8'), true, wake);
END $$;

CREATE FUNCTION {s}.publish(topic text, payload jsonb, wake boolean DEFAULT true)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM {s}.send(topic, convert_to(payload::text, 'UTF8'), true, wake);
END $$;

CREATE FUNCTION {s}.send(topic text, payload bytea, is_text boolean, wake boolean)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF topic IS NULL OR length(topic) > 255
    OR topic COLLATE "C" !~ '^(?!\$)[!-)+,/-=?-~-]+(\.[!-)+,/-=?-~-]+)*$'
    OR length(topic) - length(replace(topic, '.', '')) >= 32
  THEN
    RAISE EXCEPTION 'no topic of a broker: %', quote_nullable(left(topic, 80))
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  INSERT INTO {s}.outbox (topic, payload, is_text) VALUES (topic, payload, is_text);
  IF wake THEN
    PERFORM pg_notify('{channel}', '');
  END IF;
END $$;
