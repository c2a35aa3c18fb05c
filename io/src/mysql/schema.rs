//! The tables: versioned migrations, each applied once and known by its checksum.

use mysql::prelude::Queryable;
use refinery::{Migration, Runner};

use super::{
    connection::Db,
    error::{MysqlError, chain, failed},
    legacy,
    settings::MysqlSettings,
};

mod embedded {
    #![allow(missing_docs, clippy::unwrap_used, reason = "written by the macro")]
    refinery::embed_migrations!("src/mysql/migrations");
}

/// Holds the migrating hand alone; the longest wait for another one, in s.
const LOCK_WAIT_S: u32 = 60;

fn runner() -> Runner {
    embedded::migrations::runner()
}

/// The version that this program needs.
pub(super) fn needed() -> u32 {
    let versions = runner()
        .get_migrations()
        .iter()
        .map(|migration| migration.version() as u32)
        .max();
    versions.unwrap_or(0)
}

/// All migrations as SQL, for people who run them by hand.
pub fn print() -> String {
    let mut text = String::new();
    for migration in runner().get_migrations() {
        text.push_str(&format!("-- {migration}\n"));
        text.push_str(migration.sql().unwrap_or_default());
        text.push('\n');
    }
    text
}

/// The log that the store belongs to, as far as rows of an older system need it.
#[derive(Clone, Copy, Debug)]
pub struct InitLog<'a> {
    /// The consumer group.
    pub group: &'a str,
    /// The command topic.
    pub topic: &'a str,
    /// How many partitions it has.
    pub partitions: u32,
}

/// Makes the database and its tables, or brings them up to date. Returns what was done, in words.
///
/// # Errors
///
/// When the server refuses, or the database is newer than this program.
pub fn init(settings: &MysqlSettings, log: &InitLog<'_>) -> Result<Vec<String>, MysqlError> {
    let mut done = Vec::new();
    let mut server = Db::open_server(settings)?;
    server.refuse_many_primaries()?;
    let made: Option<String> = server
        .conn
        .exec_first(
            "SELECT schema_name FROM information_schema.schemata WHERE schema_name = ?",
            (&settings.database,),
        )
        .map_err(failed("look for the database"))?;
    if made.is_none() {
        let name = settings.database.replace('`', "``");
        server.run(
            "make the database",
            &format!("CREATE DATABASE `{name}` DEFAULT CHARACTER SET utf8mb4"),
        )?;
        done.push(format!("made the database {}", settings.database));
    }
    let mut db = Db::open(settings)?;
    // Two hands at once would trip over each other half way: DDL commits by itself.
    let locked: Option<Option<i64>> = db
        .conn
        .exec_first(
            "SELECT GET_LOCK(?, ?)",
            (format!("kilter-init:{}", settings.database), LOCK_WAIT_S),
        )
        .map_err(failed("take the lock of init"))?;
    if locked.flatten() != Some(1) {
        return Err(MysqlError::Migration {
            why: "another kilter init is at it".into(),
        });
    }
    let found = version(&mut db)?;
    if found > needed() {
        return Err(newer(found));
    }
    if found == 0 {
        done.extend(legacy::set_aside(&mut db)?);
    }
    legacy::refuse_foreign_outbox(&mut db)?;
    let report = runner()
        .run(&mut db.conn)
        .map_err(|error| MysqlError::Migration { why: chain(&error) })?;
    for migration in report.applied_migrations() {
        done.push(describe(migration));
    }
    done.extend(legacy::take_over(&mut db, log)?);
    if report.applied_migrations().is_empty() {
        done.push(format!("the tables are at version {found} already"));
    }
    Ok(done)
}

fn describe(migration: &Migration) -> String {
    format!("applied the schema's version {}", migration.version())
}

/// The version of the tables that are there; 0 is none of ours.
fn version(db: &mut Db) -> Result<u32, MysqlError> {
    let failed = failed("read the schema's version");
    let table: Option<String> = db
        .conn
        .query_first("SHOW TABLES LIKE 'refinery_schema_history'")
        .map_err(failed)?;
    if table.is_none() {
        return Ok(0);
    }
    let version: Option<Option<u32>> = db
        .conn
        .query_first("SELECT max(version) FROM refinery_schema_history")
        .map_err(failed)?;
    Ok(version.flatten().unwrap_or(0))
}

/// Checks that the tables are those of this program; changes nothing.
///
/// # Errors
///
/// [`MysqlError::NoSchema`], [`MysqlError::OtherSchema`], or when that cannot be read.
pub fn is_ready(db: &mut Db) -> Result<(), MysqlError> {
    match version(db)? {
        0 => Err(MysqlError::NoSchema {
            address: db.settings.address(),
            database: db.settings.database.clone(),
        }),
        found if found > needed() => Err(newer(found)),
        found if found < needed() => Err(MysqlError::OtherSchema {
            found,
            needed: needed(),
            way_out: "bring it up to date, while no node runs, with: kilter init",
        }),
        _ => Ok(()),
    }
}

fn newer(found: u32) -> MysqlError {
    MysqlError::OtherSchema {
        found,
        needed: needed(),
        way_out: "use a newer kilter",
    }
}
