package pgnotify

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// tap takes the notifications out of what the server sends, and lets the driver read the rest. The driver makes three
// values of each notification, which costs more than all that is done with it. Here they are texts within one text of
// many, so whoever keeps one clones it.
//
// https://www.postgresql.org/docs/current/protocol-message-formats.html
type tap struct {
	io.Reader
	notify func(channel, payload string)

	room []byte // read into, and holds what follows text
	text string // read, and neither taken nor passed on
	pass int    // how many bytes of text, and of what follows, are for the driver
	err  error  // what reading ended with
}

// tapRoom is more than any notification: a payload is shorter than a page of the server, which has at most 32 kB.
const tapRoom = 64 << 10

const notificationResponse = 'A'

// Read reads what the driver is to have. It hands over notifications as long as nothing else comes.
func (t *tap) Read(p []byte) (int, error) {
	for {
		if err := t.take(); err != nil {
			return 0, err
		}
		if n := min(t.pass, len(t.text), len(p)); n > 0 {
			copy(p, t.text[:n])
			t.text, t.pass = t.text[n:], t.pass-n
			return n, nil
		}
		if err := t.fill(); err != nil {
			return 0, err
		}
	}
}

// take hands over the notifications that are whole, up to a message for the driver.
func (t *tap) take() error {
	const head = 5 // a message's type, and its length without the type
	for t.pass == 0 && len(t.text) >= head {
		length := 1 + int(binary.BigEndian.Uint32([]byte(t.text[1:head])))
		if t.text[0] != notificationResponse {
			t.pass = length
			return nil
		}
		if length > tapRoom {
			return fmt.Errorf("a notification of %d bytes", length)
		}
		if len(t.text) < length {
			return nil
		}
		message := t.text[:length]
		t.text = t.text[length:]
		const pid = 4
		channel, rest, _ := strings.Cut(message[min(head+pid, length):], "\x00")
		payload, _, ok := strings.Cut(rest, "\x00")
		if !ok {
			return fmt.Errorf("a notification that does not end: %q", message)
		}
		t.notify(channel, payload)
	}
	return nil
}

// fill reads more behind what is left of the text.
func (t *tap) fill() error {
	if t.room == nil {
		t.room = make([]byte, tapRoom)
	}
	left := copy(t.room, t.text)
	if t.err == nil {
		var n int
		n, t.err = t.Reader.Read(t.room[left:])
		t.text = string(t.room[:left+n])
		if n > 0 {
			return nil
		}
	}
	err := t.err
	t.err = nil // a deadline is over once it is set anew
	return err
}
