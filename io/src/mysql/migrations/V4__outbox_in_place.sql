-- Rows of a fixed shape: a column that is NULL keeps its room, so that noting where an event was sent
-- changes its row where it is. Otherwise the row grows, and is taken out and put in again. Repeating it
-- changes nothing.
ALTER TABLE outbox_events ROW_FORMAT = REDUNDANT;
