-- The legs of transfers: which leg a ledger entry is of, and the user that it was for, because a
-- credit may have failed for want of an account. Columns that are there already are those of a first
-- try that was cut off before it was written down.
SET @kilter_has_legs = (SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'balance_transactions'
    AND column_name IN ('leg', 'leg_user'));
SET @kilter_legs = IF(@kilter_has_legs = 0, 'ALTER TABLE balance_transactions ADD COLUMN leg VARBINARY(64) NULL, ADD COLUMN leg_user VARBINARY(64) NULL', 'DO 0');
PREPARE kilter_legs FROM @kilter_legs;
EXECUTE kilter_legs;
DEALLOCATE PREPARE kilter_legs;
