-- The legs of transfers: which leg a ledger entry is of, and the user that it was for, because a
-- credit may have failed for want of an account.
ALTER TABLE balance_transactions
    ADD COLUMN leg VARBINARY(64) NULL,
    ADD COLUMN leg_user VARBINARY(64) NULL;
