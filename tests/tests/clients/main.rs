//! Client, producer and consumer against real brokers: one suite, run three times. Millstream is reached over TCP with
//! its data on disk, and in process with its data in memory; Apache Kafka is started from the jars that
//! `tests/compat/setup.sh` fetches, and left out, aloud, where they or Java are not there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(clippy::print_stdout, reason = "a case that draws lots tells its seed")]

/// Has each case, an `async fn(&Bed)`, run against every kind of broker.
macro_rules! suite {
    ($($case:ident),+ $(,)?) => {
        mod over_tcp {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(&crate::bed::Bed::over_tcp()).await;
            })+
        }

        mod in_process {
            $(#[tokio::test]
            async fn $case() {
                super::$case(&crate::bed::Bed::in_process()).await;
            })+
        }

        mod apache_kafka {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(bed) = crate::bed::Bed::apache_kafka() {
                    super::$case(&bed).await;
                }
            })+
        }
    };
}

mod bed;

mod admin;
mod consuming;
mod faults;
mod producing;
