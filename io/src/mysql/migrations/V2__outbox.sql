-- What was accepted and has to reach the log, and the legs of transfers. Unique for ever over user,
-- transaction id and leg: trimming drops payloads, never rows.
CREATE TABLE IF NOT EXISTS outbox_events (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    event_id VARCHAR(80) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    topic VARBINARY(249) NOT NULL,
    -- The user, by whose hash the partition is chosen.
    partition_key VARBINARY(64) NOT NULL,
    transaction_id VARBINARY(64) NOT NULL,
    -- The name of a transfer's leg, OPEN where an account is opened, else empty.
    leg VARBINARY(64) NOT NULL DEFAULT '',
    -- The command as it goes to the log. Not of type JSON, which rewrites numbers. NULL once trimmed.
    payload LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    -- SHA-256 of the payload as it was accepted. NULL for legs.
    request_hash BINARY(32) NULL,
    status ENUM('PENDING', 'SENT', 'FAILED') NOT NULL,
    retry_count INT UNSIGNED NOT NULL DEFAULT 0,
    error_message VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    created_at DATETIME(3) NOT NULL,
    sent_at DATETIME(3) NULL,
    -- When it was issued last, in ms since 1970, and how often.
    issued_at_ms BIGINT NOT NULL,
    issues INT UNSIGNED NOT NULL DEFAULT 1,
    key_hash BIGINT UNSIGNED NOT NULL,
    -- Where the log acknowledged the last issue.
    sent_generation INT UNSIGNED NULL,
    sent_partition INT UNSIGNED NULL,
    sent_offset BIGINT UNSIGNED NULL,
    -- 1 if it reached the log so long after it was issued that it may have been refused as EXPIRED.
    late TINYINT UNSIGNED NOT NULL DEFAULT 0,
    -- The key's hash while somebody has to look after the row.
    open_hash BIGINT UNSIGNED AS (CASE WHEN status = 'SENT' AND late = 0 THEN NULL ELSE key_hash END) VIRTUAL,
    UNIQUE KEY event_id (event_id),
    UNIQUE KEY name (partition_key, transaction_id, leg),
    KEY open_events (open_hash, id)
) ENGINE = InnoDB;

-- Who resends what was left, a row for each range of hashes.
CREATE TABLE IF NOT EXISTS outbox_leases (
    id INT UNSIGNED NOT NULL PRIMARY KEY,
    owner VARBINARY(64) NULL,
    expires_at DATETIME(6) NULL,
    term BIGINT UNSIGNED NOT NULL DEFAULT 0
) ENGINE = InnoDB;
