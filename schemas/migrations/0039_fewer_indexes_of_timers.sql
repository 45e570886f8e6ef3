-- Each start wrote an entry to these indexes. Nobody has more than one timer, so the whole table is read as fast: for what runs on
-- a task, and for the timers that have run for hours.
DROP INDEX timers_of_task;
DROP INDEX timers_started;
