package pgnotify

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// demux takes the notifications out of what the server sends, and lets the driver read the rest. The driver makes three
// values of each notification, which costs more than all that is done with it. Here they are texts within one text of
// many, so whoever keeps one clones it.
//
// https://www.postgresql.org/docs/current/protocol-message-formats.html
type demux struct {
	conn   io.Reader
	notify func(channel, payload string)
	read   func()      // told of each read that brought something
	quiet  func() bool // whether the server has nothing to say but notifications

	room []byte // read into, and holds what follows text
	text string // read, and neither taken nor passed on
	pass int    // how many bytes of text, and of what follows, are for the driver
	err  error  // what reading ended with
}

// demuxRoom is more than any notification: a payload is shorter than a page of the server, which has at most 32 kB.
const demuxRoom = 64 << 10

const notificationResponse, errorResponse = 'A', 'E'

// Read reads what the driver is to have. It hands over notifications as long as nothing else comes.
func (d *demux) Read(p []byte) (int, error) {
	for {
		if err := d.take(); err != nil {
			return 0, err
		}
		if n := min(d.pass, len(d.text), len(p)); n > 0 {
			copy(p, d.text[:n])
			d.text, d.pass = d.text[n:], d.pass-n
			return n, nil
		}
		if err := d.fill(); err != nil {
			return 0, err
		}
	}
}

// take hands over the notifications that are whole, up to a message for the driver.
func (d *demux) take() error {
	const head = 5 // a message's type, and its length without the type
	for d.pass == 0 && len(d.text) >= head {
		length := 1 + int(binary.BigEndian.Uint32([]byte(d.text[1:head])))
		switch {
		case d.text[0] == errorResponse && d.quiet != nil && d.quiet() && length <= demuxRoom:
			if len(d.text) < length {
				return nil
			}
			if err := d.unasked(d.text[head:length]); err != nil {
				return err
			}
			d.pass = length
			return nil
		case d.text[0] != notificationResponse:
			d.pass = length
			return nil
		case length > demuxRoom:
			return fmt.Errorf("a notification of %d bytes", length)
		}
		if len(d.text) < length {
			return nil
		}
		message := d.text[:length]
		d.text = d.text[length:]
		const pid = 4
		channel, rest, _ := strings.Cut(message[min(head+pid, length):], "\x00")
		payload, _, ok := strings.Cut(rest, "\x00")
		if !ok {
			return fmt.Errorf("a notification that does not end: %q", message)
		}
		d.notify(channel, payload)
	}
	return nil
}

// unasked returns an error that the server reports while nothing was asked of it, and after which it goes on. The driver
// would pass over it, with the notification that could not be sent. One that ends the session is for the driver.
func (d *demux) unasked(body string) error {
	var report pgproto3.ErrorResponse
	if err := report.Decode([]byte(body)); err != nil {
		return err
	}
	if report.SeverityUnlocalized == "FATAL" || report.SeverityUnlocalized == "PANIC" {
		return nil
	}
	return fmt.Errorf("the server could not send a notification: %w", pgconn.ErrorResponseToPgError(&report))
}

// fill reads more behind what is left of the text.
func (d *demux) fill() error {
	if d.room == nil {
		d.room = make([]byte, demuxRoom)
	}
	left := copy(d.room, d.text)
	if d.err == nil {
		var n int
		n, d.err = d.conn.Read(d.room[left:])
		d.text = string(d.room[:left+n])
		if n > 0 {
			if d.read != nil {
				d.read()
			}
			return nil
		}
	}
	err := d.err
	d.err = nil // a deadline is over once it is set anew
	return err
}
