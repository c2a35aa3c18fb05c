//! Units to text.

use super::{LIMIT, ONE, SCALE};

/// The longest text with its sign and point is 38 bytes (`-`, 18 digits, `.`, 18 digits); the
/// buffer has room to spare.
pub const TEXT_BYTES: usize = 40;

/// Where the point stands in the buffer, whether or not it is printed.
const POINT: usize = TEXT_BYTES - SCALE as usize - 1;

/// Nine digits are what a `u32` holds: short divisions, and two halves that do not wait for one
/// another.
const HALF: usize = SCALE as usize / 2;

/// 10⁹.
const HALF_ONE: u64 = 10_u64.pow(HALF as u32);

/// Prints units of 10⁻¹⁸ in plain notation. See `Amount::write_to`.
pub(super) fn write(units: i128, buffer: &mut [u8; TEXT_BYTES]) -> &str {
    let (whole, fraction) = split(units.unsigned_abs());
    let mut start = digits(whole, &mut buffer[..POINT]);
    if units < 0 {
        start -= 1;
        buffer[start] = b'-';
    }
    let mut end = POINT;
    if fraction != 0 {
        buffer[POINT] = b'.';
        fill(
            (fraction / HALF_ONE) as u32,
            &mut buffer[POINT + 1..][..HALF],
        );
        fill(
            (fraction % HALF_ONE) as u32,
            &mut buffer[POINT + 1 + HALF..],
        );
        end = TEXT_BYTES;
        while buffer[end - 1] == b'0' {
            end -= 1;
        }
    }
    core::str::from_utf8(&buffer[start..end]).expect("only ASCII was written")
}

/// Writes a number at the end of the buffer and says where it starts.
fn digits(number: u64, buffer: &mut [u8]) -> usize {
    let mut start = buffer.len();
    let mut rest = number;
    loop {
        start -= 1;
        buffer[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return start;
        }
    }
}

/// Fills the buffer with the last digits of a number.
#[inline]
fn fill(number: u32, buffer: &mut [u8]) {
    let mut rest = number;
    for slot in buffer.iter_mut().rev() {
        *slot = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// Wholes and units below one.
///
/// A division of 128 bits costs more than all the digits, so this multiplies by the reciprocal of
/// one: with 2⁵⁶ units as the measure the factors fit 64 bits, and three roundings down leave the
/// quotient at most two short.
fn split(units: u128) -> (u64, u64) {
    const MEASURE: u32 = 56;
    const RECIPROCAL: u128 = (1 << (64 + MEASURE)) / ONE as u128;
    const { assert!(LIMIT >> MEASURE <= 1 << 64 && RECIPROCAL < 1 << 64) };
    let mut whole = (((units >> MEASURE) * RECIPROCAL) >> 64) as u64;
    let mut rest = (units - u128::from(whole) * u128::from(ONE)) as u64;
    while rest >= ONE {
        whole += 1;
        rest -= ONE;
    }
    (whole, rest)
}
