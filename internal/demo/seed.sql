-- An id is a time in milliseconds, a shard and a number within the millisecond.
CREATE SEQUENCE actions_id_seq;
CREATE FUNCTION snowflake() RETURNS bigint LANGUAGE sql VOLATILE AS $$
	SELECT ((extract(epoch FROM clock_timestamp()) * 1000)::bigint - 1504051200000) << 23
	       | 5 << 10 | nextval('actions_id_seq') % 1024
$$;

CREATE TABLE actions (
	id bigint PRIMARY KEY DEFAULT snowflake(),
	"order" integer NOT NULL,
	type text NOT NULL,
	descriptor jsonb NOT NULL,
	actionable_id bigint NOT NULL,
	actionable_type text NOT NULL,
	platform text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	deleted_at timestamptz
);

CREATE EXTENSION tcn;

CREATE TRIGGER actions_notification_trigger
AFTER INSERT OR UPDATE OR DELETE ON actions FOR EACH ROW
EXECUTE PROCEDURE triggered_change_notification ();

-- The function notify_event of the note is there already: the tests have it, too.
CREATE TRIGGER actions_better_notification_trigger
AFTER INSERT OR UPDATE OR DELETE ON actions FOR EACH ROW
EXECUTE PROCEDURE notify_event ();

INSERT INTO "public"."actions" (id, "order", "type", "descriptor", "actionable_id", "actionable_type", "platform") VALUES
(814150981284533461, '1', 'text', '{"text": "已經在專人線上回覆模式囉!欲切換回機器人模式,請點選按鈕。", "buttons": [{"id": "qjeOd64yTZ", "type": "postback", "title": "回到機器人模式", "payload": "466303161796137991", "defaultVisible": true, "webviewSetting": {"extension": false, "heightRatio": "full"}, "trackingUrlEnabled": false}]}', '466303161695474694', 'composite_actions', 'messenger'),
(814156125556446423, '1', 'text', '{"text": "已經在專人線上回覆模式 囉!欲切換回機器人模式,請點選按鈕。", "buttons": [{"id": "qjeOd64yTZ", "type": "postback", "title": "回到機器人模式", "payload": "466303161796137991", "defaultVisible": true, "webviewSetting": {"extension": false, "heightRatio": "full"}, "trackingUrlEnabled": false}]}', '466303161695474694', 'composite_actions', 'messenger');

-- Somebody else's row, and the rows that are written to while pgevict's session is killed.
INSERT INTO actions (id, "order", type, descriptor, actionable_id, actionable_type, platform)
SELECT i, i, 'text', jsonb_build_object('text', 'row ' || i), i % 20, 'folders', 'line' FROM generate_series(1, 300) i;
