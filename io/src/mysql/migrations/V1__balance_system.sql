-- The store. Columns of older systems keep their names; what is ours comes behind them.
-- Times are UTC. Ids of users and transactions are bytes: every collation pads or folds.

CREATE TABLE IF NOT EXISTS kilter_settings (
    name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    value VARBINARY(512) NOT NULL
) ENGINE = InnoDB;

-- Which log the offsets count in. A new generation begins when an operator adopts another log.
CREATE TABLE IF NOT EXISTS kilter_logs (
    generation INT UNSIGNED NOT NULL PRIMARY KEY,
    cluster_id VARBINARY(255) NOT NULL,
    topic VARBINARY(249) NOT NULL,
    topic_id VARBINARY(64) NOT NULL,
    partitions INT UNSIGNED NOT NULL,
    adopted_at DATETIME(3) NOT NULL,
    reason VARBINARY(1024) NOT NULL
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS accounts (
    id BIGINT NOT NULL PRIMARY KEY,
    user_id VARBINARY(64) NOT NULL,
    shard_id INT NOT NULL,
    created_at DATETIME(3) NOT NULL,
    updated_at DATETIME(3) NOT NULL,
    state ENUM('PENDING', 'ACTIVE') NOT NULL,
    UNIQUE KEY user_id (user_id)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS account_balances (
    account_id BIGINT NOT NULL,
    currency_code VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    available DECIMAL(36, 18) NOT NULL,
    frozen DECIMAL(36, 18) NOT NULL,
    version BIGINT UNSIGNED NOT NULL,
    created_at DATETIME(3) NOT NULL,
    updated_at DATETIME(3) NOT NULL,
    PRIMARY KEY (account_id, currency_code)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS balance_transactions (
    generation INT UNSIGNED NOT NULL,
    `partition` INT UNSIGNED NOT NULL,
    `offset` BIGINT UNSIGNED NOT NULL,
    posting SMALLINT UNSIGNED NOT NULL,
    account_id BIGINT NOT NULL,
    currency_code VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    transaction_id VARBINARY(64) NOT NULL,
    type VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    amount DECIMAL(36, 18) NOT NULL,
    available_before DECIMAL(36, 18) NOT NULL,
    available_after DECIMAL(36, 18) NOT NULL,
    frozen_before DECIMAL(36, 18) NOT NULL,
    frozen_after DECIMAL(36, 18) NOT NULL,
    status ENUM('INIT', 'PROCESSING', 'SUCCESS', 'FAILED') NOT NULL,
    error_message VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
    created_at DATETIME(3) NOT NULL,
    version BIGINT UNSIGNED NOT NULL,
    remembered_ms BIGINT NULL,
    PRIMARY KEY (generation, `partition`, `offset`, posting),
    KEY account (account_id)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS consumer_offsets (
    consumer_group VARBINARY(255) NOT NULL,
    topic VARBINARY(249) NOT NULL,
    `partition` INT UNSIGNED NOT NULL,
    first_hash BIGINT UNSIGNED NOT NULL,
    last_hash BIGINT UNSIGNED NOT NULL,
    `offset` BIGINT UNSIGNED NOT NULL,
    updated_at DATETIME(3) NOT NULL,
    generation INT UNSIGNED NOT NULL,
    clock_ms BIGINT NOT NULL,
    last_key_hash BIGINT UNSIGNED NOT NULL,
    last_timestamp_ms BIGINT NOT NULL,
    term BIGINT UNSIGNED NOT NULL,
    epoch BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (consumer_group, topic, `partition`, first_hash)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS leader_locks (
    id INT UNSIGNED NOT NULL PRIMARY KEY,
    consumer_id VARBINARY(64) NULL,
    acquired_at DATETIME(6) NULL,
    expires_at DATETIME(6) NULL,
    term BIGINT UNSIGNED NOT NULL DEFAULT 0,
    clean TINYINT NOT NULL DEFAULT 1
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS kilter_windows (
    generation INT UNSIGNED NOT NULL,
    `partition` INT UNSIGNED NOT NULL,
    from_offset BIGINT UNSIGNED NOT NULL,
    window_ms BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (generation, `partition`, from_offset)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS kilter_notes (
    generation INT UNSIGNED NOT NULL,
    `partition` INT UNSIGNED NOT NULL,
    `offset` BIGINT UNSIGNED NOT NULL,
    kind ENUM('REFUSE', 'IGNORE_TIME') NOT NULL,
    reason VARBINARY(1024) NOT NULL,
    created_at DATETIME(3) NOT NULL,
    PRIMARY KEY (generation, `partition`, `offset`, kind)
) ENGINE = InnoDB;

-- Transaction ids that an older system answered not long ago: they stay known for a window.
CREATE TABLE IF NOT EXISTS kilter_legacy_ids (
    account_id BIGINT NOT NULL,
    transaction_id VARBINARY(64) NOT NULL,
    remembered_ms BIGINT NOT NULL,
    PRIMARY KEY (account_id, transaction_id)
) ENGINE = InnoDB;
