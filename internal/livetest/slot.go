package livetest

import "strings"

const slotCount = 16384

// Slot returns the slot of a key in a Redis Cluster, as its specification has it: CRC16 (XMODEM) of the key, or of what
// stands between its first opening brace and the next closing one, unless nothing does.
func Slot(key string) int {
	if _, rest, ok := strings.Cut(key, "{"); ok {
		if tag, _, ok := strings.Cut(rest, "}"); ok && tag != "" {
			key = tag
		}
	}
	var crc uint16
	for _, b := range []byte(key) {
		crc ^= uint16(b) << 8
		for range 8 {
			carry := crc&0x8000 != 0
			crc <<= 1
			if carry {
				crc ^= 0x1021
			}
		}
	}
	return int(crc) % slotCount
}
