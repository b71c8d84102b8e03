package doctor

import (
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgevict/internal/livetest"
)

// TestWholeEncodings asks a server which bytes have a form in UTF-8: the doctor's list is of the encodings in which all have.
func TestWholeEncodings(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), livetest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, name := range []string{"LATIN1", "LATIN2", "LATIN3", "LATIN4", "LATIN5", "LATIN6", "LATIN7", "LATIN8", "LATIN9", "LATIN10",
		"ISO_8859_5", "ISO_8859_6", "ISO_8859_7", "ISO_8859_8", "KOI8R", "KOI8U", "WIN866", "WIN874", "WIN1250", "WIN1251", "WIN1252", "WIN1253",
		"WIN1254", "WIN1255", "WIN1256", "WIN1257", "WIN1258"} {
		whole := true
		for b := 128; b < 256; b++ {
			var text []byte
			if err := conn.QueryRow(t.Context(), fmt.Sprintf(`SELECT convert('\x%02x'::bytea, '%s', 'UTF8')`, b, name)).Scan(&text); err != nil {
				whole = false
				break
			}
		}
		if whole != slices.Contains(wholeEncodings, name) {
			t.Errorf("%s: all bytes have a form in UTF-8: %v", name, whole)
		}
	}
}
