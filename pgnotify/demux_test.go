package pgnotify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5/pgconn"
)

func frame(kind byte, body string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body)))
	return append(b, body...)
}

func notificationFrame(channel, payload string) []byte {
	return frame('A', "\x00\x00\x00\x07"+channel+"\x00"+payload+"\x00")
}

// However the stream is cut into reads, and whatever deadlines fall between them, each byte goes where it belongs.
func TestDemux(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	var stream, driver []byte
	var heard []string
	for n := range 2000 {
		switch rng.IntN(4) {
		case 0:
			other := frame("TDCZS"[rng.IntN(5)], strings.Repeat("A\x00\x00", rng.IntN(3000)))
			stream, driver = append(stream, other...), append(driver, other...)
		default:
			payload := fmt.Sprint(n, strings.Repeat("x", rng.IntN(8000)))
			stream, heard = append(stream, notificationFrame("tcn", payload)...), append(heard, "tcn "+payload)
		}
	}
	whole := func(r io.Reader) io.Reader { return r }
	for name, cut := range map[string]func(io.Reader) io.Reader{
		"whole": whole, "halves": iotest.HalfReader, "bytes": iotest.OneByteReader, "deadlines": newDeadlines, "at the end": iotest.DataErrReader,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			under := &demux{conn: cut(bytes.NewReader(stream)), notify: func(channel, payload string) {
				got = append(got, channel+" "+payload)
			}}
			var passed bytes.Buffer
			for {
				_, err := io.CopyBuffer(&passed, struct{ io.Reader }{under}, make([]byte, 1000))
				if err == nil {
					break
				}
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(passed.Bytes(), driver) {
				t.Errorf("the driver got %d bytes, not the %d that are its own", passed.Len(), len(driver))
			}
			if !slices.Equal(got, heard) {
				t.Errorf("%d notifications, not %d", len(got), len(heard))
			}
		})
	}
}

// deadlines returns an error before each third read.
type deadlines struct {
	io.Reader
	reads int
}

func newDeadlines(r io.Reader) io.Reader { return &deadlines{Reader: iotest.HalfReader(r)} }

func (d *deadlines) Read(p []byte) (int, error) {
	if d.reads++; d.reads%3 == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	return d.Reader.Read(p)
}

func TestDemuxBroken(t *testing.T) {
	t.Parallel()
	for name, stream := range map[string][]byte{
		"too long":  {'A', 0x7f, 0xff, 0xff, 0xff},
		"too short": {'A', 0, 0, 0, 0},
		"no end":    frame('A', "\x00\x00\x00\x07tcn\x00payload"),
		"no body":   frame('A', ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			under := &demux{conn: bytes.NewReader(append(stream, make([]byte, 8)...)), notify: func(channel, payload string) {
				t.Errorf("heard %q %q", channel, payload)
			}}
			if _, err := io.ReadAll(under); err == nil {
				t.Error("no error")
			}
		})
	}
}

// An error that nobody asked for ends the reading, unless it ends the session anyway, or is the answer to a query.
func TestDemuxReportsErrors(t *testing.T) {
	t.Parallel()
	report := func(severity string) []byte {
		return frame('E', "S"+severity+"\x00V"+severity+"\x00C22021\x00Minvalid byte sequence\x00\x00")
	}
	for name, c := range map[string]struct {
		stream []byte
		quiet  bool
		ends   bool
	}{
		"while idle":       {report("ERROR"), true, true},
		"behind a message": {append(notificationFrame("tcn", "x"), report("ERROR")...), true, true},
		"an answer":        {report("ERROR"), false, false},
		"the end":          {report("FATAL"), true, false},
		"a warning":        {frame('N', "SWARNING\x00VWARNING\x00C01000\x00Mx\x00\x00"), true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			under := &demux{conn: iotest.HalfReader(bytes.NewReader(c.stream)), notify: func(string, string) {}, quiet: func() bool { return c.quiet }}
			passed, err := io.ReadAll(under)
			var answer *pgconn.PgError
			if c.ends != errors.As(err, &answer) || c.ends != (len(passed) == 0) || c.ends && answer.Code != "22021" {
				t.Errorf("the driver got %d bytes, and the error %v", len(passed), err)
			}
		})
	}
}
