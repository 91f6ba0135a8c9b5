//! [`c_main!`](crate::c_main): a program whose start is C's, not the standard library's.

use std::panic::{self, AssertUnwindSafe};
use std::process::{self, ExitCode};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::IntoRawFd as _;
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, fcntl_getfd, retry_on_intr};
use rustix::stdio::{stderr, stdin, stdout};

/// Makes this handler a program without the start of Rust's standard library: eleven of the some 36 system calls of a
/// CGI request, and a twentieth of its time.
///
/// It takes the place of `main`, in a program that has no other. Its unit tests have an ordinary one:
///
/// ```no_run
/// #![cfg_attr(not(test), no_main)]
///
/// use cgi_session::{Request, Response, Result};
///
/// cgi_session::c_main!(counter);
///
/// fn counter(request: &mut Request) -> Result<Response> {
///     let session = request.session()?;
///     let views = session.get::<u64>("pageViews")?.unwrap_or(0) + 1;
///     session.insert("pageViews", views)?;
///     Ok(Response::html(format!("Hello, you've been here {views} time(s)")))
/// }
/// # #[cfg(any())]
/// # fn main() {} // The example is a program of its own.
/// ```
///
/// With settings it is `c_main!(Program::new().error_page(page), counter)`. Everything else is as by
/// [`run`](crate::run): first of all, `/dev/null` is opened where descriptor 0, 1 or 2 is closed, and SIGPIPE is
/// ignored; a handler that panics is answered 500, and no panic unwinds into C.
///
/// # What it costs
///
/// * The program declares two C functions, `main` and `signal`. It is unsafe code that this macro brings into it;
///   the lint `unsafe_code` does not see it there.
/// * With musl, [`std::env::args`] is empty: options such as `--listen` are not seen ([`Program::listen`] is), and in
///   the log the program has the name of its file.
/// * An overflow of the main thread's stack ends the program by SIGSEGV without a message. By `main` it is SIGABRT,
///   with one.
/// * The main thread has no name.
///
/// [`Program::listen`]: crate::Program::listen
#[macro_export]
macro_rules! c_main {
    ($handler:expr $(,)?) => {
        $crate::c_main!($crate::Program::new(), $handler);
    };
    ($program:expr, $handler:expr $(,)?) => {
        #[cfg(not(test))]
        #[unsafe(no_mangle)]
        extern "C" fn main() -> ::core::ffi::c_int {
            unsafe extern "C" {
                fn signal(signal: ::core::ffi::c_int, action: usize) -> usize;
            }
            // SIGPIPE and SIG_IGN, which have these numbers on every system that the library runs on.
            // SAFETY: it is C's, and no other thread runs yet.
            unsafe { signal(13, 1) };
            $crate::start_by_c(|| $program.run($handler))
        }

        #[cfg(test)]
        #[allow(dead_code)]
        fn main() -> ::std::process::ExitCode {
            $program.run($handler)
        }
    };
}

/// What the standard library does before and after `main`, as far as a program needs it.
#[doc(hidden)]
pub fn start_by_c(run: impl FnOnce() -> ExitCode) -> ! {
    let descriptors = [stdin(), stdout(), stderr()];
    let mut polled = descriptors
        .each_ref()
        .map(|it| PollFd::new(it, PollFlags::empty()));
    // Apple's poll(2) says nothing of a closed descriptor.
    let is_polled = cfg!(not(target_vendor = "apple"))
        && retry_on_intr(|| poll(&mut polled, Some(&Timespec::default()))).is_ok();
    for (descriptor, polled) in descriptors.iter().zip(polled) {
        let is_closed = if is_polled {
            polled.revents().contains(PollFlags::NVAL)
        } else {
            // As with a limit of fewer descriptors than three.
            fcntl_getfd(descriptor) == Err(Errno::BADF)
        };
        // It gets the lowest number that is free, which is this.
        if is_closed {
            match rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()) {
                Ok(file) => drop(file.into_raw_fd()),
                Err(_) => process::abort(),
            }
        }
    }
    let ended = panic::catch_unwind(AssertUnwindSafe(run));
    let number = |code| (0..=u8::MAX).find(|number| ExitCode::from(*number) == code);
    // As of a `main` that panics. This also writes what is left in the buffer of `print!`.
    process::exit(ended.ok().and_then(number).map_or(101, i32::from))
}
