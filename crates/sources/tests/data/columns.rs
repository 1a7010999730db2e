//! Parquet as other programs write it: codecs, structs and lists.

use std::sync::Arc;

use parquet::basic::{BrotliLevel, Compression};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use sinkscope_sources::data::TextRequest;

use crate::files::*;

/// A file with one column; `levels` are the definition and repetition levels.
fn column(schema: &str, codec: Compression, levels: Option<(&[i16], &[i16])>, texts: &[&str]) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_compression(codec).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let values: Vec<ByteArray> = texts.iter().map(|text| ByteArray::from(text.as_bytes().to_vec())).collect();
    let (definitions, repetitions) = levels.unzip();
    column.typed::<ByteArrayType>().write_batch(&values, definitions, repetitions).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}

const PLAIN: &str = "message rows { REQUIRED BYTE_ARRAY text (UTF8); }";

#[test]
fn every_codec_is_read() {
    let folder = Folder::new();
    let ids = expected_ids();
    for codec in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::BROTLI(BrotliLevel::default()),
    ] {
        let path = folder.write("a.parquet", column(PLAIN, codec, None, &DOCUMENTS));
        assert_eq!(read(&request(&path)).batch.tokens, ids[..ids.len() / 8 * 8], "{codec:?}");
    }
}

/// Definition and repetition levels of a column.
type Levels = (&'static [i16], &'static [i16]);

#[test]
fn structs_and_lists_are_named_by_their_path() {
    let folder = Folder::new();
    let ids = expected_ids();
    let list = "OPTIONAL GROUP texts (LIST) { REPEATED GROUP list { OPTIONAL BYTE_ARRAY element (UTF8); } }";
    let structs = "OPTIONAL GROUP a { REQUIRED GROUP b { OPTIONAL BYTE_ARRAY c (UTF8); } }";
    let chat = "REQUIRED GROUP messages (LIST) { REPEATED GROUP list { REQUIRED GROUP element { REQUIRED BYTE_ARRAY content; } } }";
    // A null list, one of two strings, an empty one, one of one string.
    let lists: Levels = (&[0, 3, 3, 1, 3], &[0, 0, 1, 0, 0]);
    let cases: [(&str, Levels, &[&str]); 3] = [
        (list, lists, &["texts", "texts.list.element"]),
        (structs, (&[2, 2, 2], &[0, 0, 0]), &["a.b.c"]),
        (chat, (&[1, 0, 1, 1], &[0, 0, 0, 1]), &["messages.content", "messages.list.element.content"]),
    ];
    for (schema, levels, names) in cases {
        let schema = format!("message rows {{ {schema} }}");
        let bytes = column(&schema, Compression::UNCOMPRESSED, Some(levels), &DOCUMENTS);
        let path = folder.write("a.parquet", bytes);
        for name in names {
            let data = read(&TextRequest { field: Some(*name), ..request(&path) });
            assert_eq!(data.batch.tokens, ids[..ids.len() / 8 * 8], "{name}");
        }
        assert_says(&request(&path), &format!("there is no column `text`; the columns are {}", names[0]));
    }
    let nulls: [(&str, &str, Levels); 2] =
        [(list, "texts", (&[3, 0, 2], &[0, 0, 0])), (structs, "a.b.c", (&[2, 2, 0], &[0, 0, 0]))];
    for (schema, name, levels) in nulls {
        let schema = format!("message rows {{ {schema} }}");
        let texts = &DOCUMENTS[..levels.0.iter().filter(|&&level| level == levels.0[0]).count()];
        let path = folder.write("null.parquet", column(&schema, Compression::UNCOMPRESSED, Some(levels), texts));
        let wanted = TextRequest { field: Some(name), ..request(&path) };
        assert_says(&wanted, &format!("row 2 has no text: its `{name}` is null"));
    }
}
