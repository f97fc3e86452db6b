-- What was told of usage as events, by customer, cluster, namespace, resource,
-- currency and hour: the sums that were accepted (quantity in stored units, cost as
-- a decimal), and the sums with the revision that is on its way or was refused.
CREATE TABLE usage_event (
	bucket        INTEGER NOT NULL,
	customer      TEXT    NOT NULL,
	cluster       TEXT    NOT NULL,
	namespace     TEXT    NOT NULL,
	resource      TEXT    NOT NULL,
	currency      TEXT    NOT NULL,
	revision      INTEGER NOT NULL,
	state         TEXT    NOT NULL, -- sent, pending or refused
	quantity      INTEGER NOT NULL,
	cost          TEXT    NOT NULL,
	next_quantity INTEGER NOT NULL,
	next_cost     TEXT    NOT NULL,
	error         TEXT    NOT NULL,
	at            INTEGER NOT NULL,
	PRIMARY KEY (bucket, customer, cluster, namespace, resource, currency)
) WITHOUT ROWID;
CREATE INDEX usage_event_state ON usage_event (state) WHERE state <> 'sent';
