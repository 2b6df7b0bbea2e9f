// Gridded fields of checkpoints: what is refused, what reads back whatever blocks were written, and
// what other people's readers make of the view and of fields.xdmf.
#include "runtime/host/checkpoint_field.hpp"

#include <cmath>
#include <limits>
#include <random>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/host/checkpoint_manifest.hpp"
#include "runtime/host/checkpoint_xdmf.hpp"
#include "runtime/host/content_hash.hpp"
#include "tests/host/checkpoints.hpp"
#include "tests/host/outside_programs.hpp"
#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using checkpoint_fields::block_problem;
using checkpoint_fields::Box;
using checkpoint_fields::box_of;
using checkpoint_fields::overlapping;
using test::contents_of;
using test::expect_valid;
using test::heat_in;
using test::heat_on;
using test::names_in;
using test::number;
using test::runs;
using test::take;
using test::Taking;
using test::TestRun;
using test::write_file;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

using Shape = std::vector<std::uint64_t>;

// ---- Blocks ----

TEST(FieldBlocks, ThatCanBeAreTaken) {
  for (const Shape& shape : {Shape{7}, Shape{3, 4}, Shape{1, 1, 9}}) {
    for (const FieldBlock& block : test::uneven_blocks(heat_on(shape), 3))
      EXPECT_EQ(block_problem(block, box_of(block).elements()), "");
  }
  EXPECT_EQ(block_problem({heat_on({3, 4}), {3, 0}, {0, 4}}, 0), "") << "of no element";
}

TEST(FieldBlocks, ThatCannotBeAreNamed) {
  const FieldBlock good{heat_on({3, 4}), {1, 0}, {2, 4}};
  const auto problem_with = [&](const auto& change) {
    FieldBlock block = good;
    change(block);
    return block_problem(block, 8);
  };
  constexpr double infinity = std::numeric_limits<double>::infinity();
  constexpr std::uint64_t huge = UINT64_MAX;
  const auto dimensions = HasSubstr("1 to 3 dimensions");
  const auto elements = HasSubstr("no elements, or too many");
  const auto place = HasSubstr("origin and spacing");
  const auto outside = HasSubstr("no block of its field");

  EXPECT_EQ(problem_with([](auto&) {}), "");
  EXPECT_THAT(block_problem(good, 7), HasSubstr("not the rows of its block"));
  EXPECT_THAT(problem_with([](auto& b) { b.field.name = "a/b"; }), HasSubstr("valid name"));
  for (const std::string& units :
       {std::string("\n"), std::string("\x7f"), std::string("\xc2"), std::string("\xc0\x80"),
        std::string("\xed\xa0\x80"), std::string("\xc2\x85"), std::string("\xef\xbf\xbf"),
        std::string("\xf4\x90\x80\x80"), std::string(1, '\0'), std::string(129, 'm')})
    EXPECT_THAT(problem_with([&](auto& b) { b.field.units = units; }), HasSubstr("valid units"));
  EXPECT_THAT(problem_with([](auto& b) { b.field.shape = {}; }), dimensions);
  EXPECT_THAT(problem_with([](auto& b) { b.field = heat_on({1, 1, 3, 4}); }), dimensions);
  EXPECT_THAT(problem_with([](auto& b) { b.field.spacing.pop_back(); }), dimensions);
  EXPECT_THAT(problem_with([](auto& b) { b.field.shape = {3, 0}; }), elements);
  EXPECT_THAT(problem_with([](auto& b) { b.field.shape = {huge, 4}; }), elements);
  EXPECT_THAT(problem_with([](auto& b) {
                b.field.shape = {1ull << 29, (1ull << 29) + 1};
              }),
              elements);
  EXPECT_THAT(problem_with([](auto& b) { b.field.shape = {1ull << 32, 1ull << 32}; }), elements);
  EXPECT_THAT(problem_with([](auto& b) { b.field.origin[1] = infinity; }), place);
  EXPECT_THAT(problem_with([](auto& b) { b.field.spacing[0] = 0; }), place);
  EXPECT_THAT(problem_with([](auto& b) { b.field.spacing[0] = std::nan(""); }), place);
  EXPECT_THAT(problem_with([](auto& b) { b.start[0] = 2; }), outside);
  EXPECT_THAT(problem_with([](auto& b) { b.start = {huge, 0}; }), outside);
  EXPECT_THAT(problem_with([](auto& b) { b.extent = {huge, 4}; }), outside);
  EXPECT_THAT(problem_with([](auto& b) { b.extent = {2, 4, 1}; }), outside);
}

// Against each pair, on tilings and on boxes that lie anywhere.
TEST(FieldBlocks, OverlapsAreFoundAsInPairs) {
  std::mt19937_64 random(7);
  int found = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<Box> boxes;
    for (const auto& block : test::uneven_blocks(heat_on({9, 5, 6}), 1 + random() % 12))
      boxes.push_back(box_of(block));
    std::ranges::shuffle(boxes, random);
    ASSERT_FALSE(overlapping(boxes)) << "round " << round;
    Shape start(3);
    Shape extent(3);
    for (auto& box : boxes) {
      if (random() % 2 == 0) continue;
      for (std::size_t i = 0; i < 3; ++i) {
        start[i] = random() % 5;
        extent[i] = random() % 4;
      }
      box = box_of(start, extent);
    }
    bool pairs = false;
    for (std::size_t i = 0; i < boxes.size(); ++i)
      for (std::size_t j = 0; j < i; ++j)
        pairs |= checkpoint_fields::shared_box(boxes[i], boxes[j]).has_value();
    const auto pair = overlapping(boxes);
    ASSERT_EQ(pair.has_value(), pairs) << "round " << round;
    ASSERT_TRUE(!pair || checkpoint_fields::shared_box(boxes[pair->first], boxes[pair->second]));
    found += pairs;
  }
  EXPECT_GT(found, 200);
  EXPECT_LT(found, 1900);
}

// As many as a field may have, in ways that one dimension alone does not tell apart.
TEST(FieldBlocks, ManyAreHeldAgainstEachOtherSoon) {
  std::vector<Box> boxes;
  for (std::uint64_t i = 0; i < 256; ++i)
    for (std::uint64_t j = 0; j < 256; ++j) boxes.push_back(box_of(Shape{0, i, j}, Shape{5, 1, 1}));
  EXPECT_FALSE(overlapping(boxes));
  boxes.back() = box_of(Shape{4, 17, 30}, Shape{1, 1, 1});
  EXPECT_TRUE(overlapping(boxes));
}

// ---- Round trips ----

struct Case {
  Shape shape;
  std::uint32_t parts;
  int deflate_level;
};

std::string name_of(const Case& taken) {
  return fmt::format("{}dimensional{}parts{}", taken.shape.size(), taken.parts,
                     taken.deflate_level == 0 ? "contiguous" : "compressed");
}

// Checkpoint 2, of which rank 0's block is linked from checkpoint 1.
struct FieldRun : TestRun {
  explicit FieldRun(const Case& taken) {
    for (const std::uint64_t checkpoint : {1, 2}) {
      const auto done = take(store, {.checkpoint = number(checkpoint),
                                     .ranks = taken.parts,
                                     .deflate_level = taken.deflate_level,
                                     .linked = number(checkpoint - 1),
                                     .grid = taken.shape});
      EXPECT_TRUE(done) << done.error();
    }
  }
};

std::vector<double> read_block(const Checkpoint& checkpoint, const Shape& start,
                               const Shape& extent) {
  std::vector<double> values(box_of(start, extent).elements());
  const auto done =
      checkpoint.read_block("grid/heat", start, extent, std::as_writable_bytes(std::span(values)));
  EXPECT_TRUE(done) << done.error();
  return values;
}

class EachGrid : public testing::TestWithParam<Case> {};

TEST_P(EachGrid, ReadBackInAnyBlocks) {
  const FieldRun run(GetParam());
  const Shape& shape = GetParam().shape;
  expect_valid(run.store, number(2));
  const auto checkpoint = run.store.open(number(2)).value();
  ASSERT_NE(checkpoint.field("grid/heat"), nullptr);
  EXPECT_EQ(*checkpoint.field("grid/heat"), heat_on(shape));
  EXPECT_EQ(checkpoint.field("shards/state"), nullptr);

  EXPECT_EQ(read_block(checkpoint, Shape(shape.size()), shape),
            heat_in(shape, Shape(shape.size()), shape, 7));
  for (const std::size_t readers : {2, 3, 7})
    for (const auto& block : test::uneven_blocks(heat_on(shape), readers))
      EXPECT_EQ(read_block(checkpoint, block.start, block.extent),
                heat_in(shape, block.start, block.extent, 7));
  std::mt19937_64 random(GetParam().parts);
  for (int i = 0; i < 50; ++i) {
    Shape start(shape.size());
    Shape extent(shape.size());
    for (std::size_t d = 0; d < shape.size(); ++d) {
      start[d] = random() % (shape[d] + 1);
      extent[d] = random() % (shape[d] - start[d] + 1);
    }
    EXPECT_EQ(read_block(checkpoint, start, extent), heat_in(shape, start, extent, 7));
  }
}

TEST_P(EachGrid, AreNamedInTheManifestAndWritten) {
  const FieldRun run(GetParam());
  const auto manifest = run.store.open(number(2)).value().manifest();
  const auto names = names_in(run.directory("000002"));
  const bool is_drawn = GetParam().shape.size() > 1;

  EXPECT_EQ(parse_manifest(to_text(manifest)).value(), manifest);
  EXPECT_EQ(manifest.xdmf.has_value(), is_drawn);
  EXPECT_EQ(std::ranges::count(names, "fields.xdmf"), is_drawn ? 1 : 0);
  if (!is_drawn) return;
  const auto text = contents_of(run.directory("000002") / "fields.xdmf");
  EXPECT_EQ(text, xdmf_text(manifest));
  EXPECT_EQ(*manifest.xdmf, (ViewFile{text.size(), content_hash(text)}));
}

// What h5py makes of the parts, the view and whatever fields.xdmf refers to; h5dump's own copy of
// the field is the last argument.
constexpr const char* kReader = R"(import h5py, json, math, numpy, os, sys
import xml.etree.ElementTree as xml
directory, shape, dumped = sys.argv[1], tuple(json.loads(sys.argv[2])), sys.argv[3]
written = numpy.arange(math.prod(shape)).reshape(shape) * 0.5 + 7
spacing = [0.25 * (i + 1) for i in range(len(shape))]
origin = [-1.5 + i for i in range(len(shape))]

def check(field):
    assert field.shape == shape and field.dtype == "<f8", field
    assert (field[...] == written).all()

def check_attributes(attributes):
    assert attributes["field"].decode() == "heat" and attributes["centred"].decode() == "cells"
    assert attributes["units"].decode() == "J m\u207b\u00b3"
    assert list(attributes["spacing"]) == spacing and list(attributes["origin"]) == origin

with h5py.File(directory + "/view.h5") as view:
    assert view["grid/heat"].is_virtual
    check(view["grid/heat"])
    check_attributes(view["grid/heat"].attrs)
    assert view["shards/state"].shape == (1000,)
assert (numpy.fromfile(dumped, "<f8").reshape(shape) == written).all()

blocks = 0
for part in json.load(open(directory + "/manifest.json"))["files"]:
    with h5py.File(directory + "/" + part["file"]) as f:
        for piece in part["pieces"]:
            if piece["dataset"] != "grid/heat" or not piece["current"]:
                continue
            dataset = f[piece.get("path", piece["dataset"])]
            check_attributes(dataset.attrs)
            assert tuple(dataset.attrs["grid_shape"]) == shape
            start, extent = dataset.attrs["block_start"], dataset.attrs["block_extent"]
            assert list(start) == piece["field"]["start"]
            block = tuple(slice(int(a), int(a + n)) for a, n in zip(start, extent))
            assert (dataset[:] == written[block].ravel()).all()
            blocks += 1
assert blocks == int(sys.argv[4])

if len(shape) > 1:
    root = xml.parse(directory + "/fields.xdmf").getroot()
    assert root.tag == "Xdmf"
    (grid,) = root.findall("Domain/Grid")
    assert grid.get("GridType") == "Uniform" and grid.find("Time").get("Value") == "7"
    topology = grid.find("Topology")
    assert topology.get("TopologyType") == "%dDCoRectMesh" % len(shape)
    assert [int(n) for n in topology.get("Dimensions").split()] == [n + 1 for n in shape]
    assert grid.find("Geometry").get("GeometryType") == "ORIGIN_DXDY" + "DZ" * (len(shape) - 2)
    geometry = [[float(n) for n in item.text.split()] for item in grid.findall("Geometry/DataItem")]
    assert geometry == [origin, spacing], geometry
    (attribute,) = grid.findall("Attribute")
    assert attribute.get("Name") == "heat" and attribute.get("Center") == "Cell"
    assert attribute.find("Information").get("Value") == "J m\u207b\u00b3"
    item = attribute.find("DataItem")
    assert item.get("Format") == "HDF" and item.get("NumberType") == "Float"
    assert item.get("Precision") == "8"
    assert tuple(int(n) for n in item.get("Dimensions").split()) == shape
    name, path = item.text.strip().split(":")
    assert not os.path.isabs(name)
    with h5py.File(os.path.join(directory, name)) as f:
        check(f[path])
)";

TEST_P(EachGrid, AreGridsToH5pyH5dumpAndXdmf) {
  const std::string python = test::python_with_h5py();
  if (python.empty()) GTEST_SKIP() << "no python3 with h5py is installed";
  if (!runs("h5dump --version")) GTEST_SKIP() << "h5dump is not installed";
  const FieldRun run(GetParam());
  const std::string view = (run.directory("000002") / "view.h5").string();
  const std::string dumped = (run.scratch.path() / "dumped").string();
  const auto script = run.scratch.path() / "read.py";
  write_file(script, kReader);

  ASSERT_EQ(
      std::system(
          fmt::format("h5dump -d /grid/heat -b LE -o {} {} >{}.txt", dumped, view, dumped).c_str()),
      0);

  const std::string shape = fmt::format("{}", fmt::join(GetParam().shape, ", "));
  EXPECT_THAT(contents_of(dumped + ".txt"),
              HasSubstr(fmt::format("SIMPLE {{ ( {} ) / ( {} ) }}", shape, shape)));
  EXPECT_EQ(
      std::system(fmt::format("{} {} {} '[{}]' {} {}", python, script.string(),
                              run.directory("000002").string(), shape, dumped, GetParam().parts)
                      .c_str()),
      0);
}

INSTANTIATE_TEST_SUITE_P(Grids, EachGrid,
                         testing::Values(Case{{50}, 3, 0}, Case{{6, 9}, 1, 0}, Case{{7, 5}, 2, 1},
                                         Case{{13, 8}, 3, 0}, Case{{5, 31}, 4, 1},
                                         Case{{16, 10}, 5, 0}, Case{{4, 5, 6}, 1, 1},
                                         Case{{9, 4, 3}, 2, 0}, Case{{3, 7, 5}, 3, 1},
                                         Case{{5, 4, 11}, 4, 0}, Case{{6, 7, 8}, 5, 1},
                                         Case{{1, 12, 1}, 3, 0}),
                         [](const auto& taken) { return name_of(taken.param); });

// Over several chunks and blocks of contiguous writing.
TEST(LargeFields, ReadBackInAnyBlocks) {
  for (const int deflate_level : {0, 1}) {
    const Shape shape = {700, 601};
    const FieldRun run({shape, 2, deflate_level});
    const auto checkpoint = run.store.open(number(2)).value();
    for (const auto& block : test::uneven_blocks(heat_on(shape), 5))
      EXPECT_EQ(read_block(checkpoint, block.start, block.extent),
                heat_in(shape, block.start, block.extent, 7));
  }
}

// ---- What no part holds, several fields ----

PieceToWrite piece_of(const std::string& dataset, std::uint64_t first_row,
                      const std::vector<double>& values, const FieldBlock& block) {
  return {dataset, ElementType::kFloat64, first_row, std::as_bytes(std::span(values)), block};
}

TEST(SeveralFields, AreShownOnTheMeshesThatTheyShare) {
  const TestRun run;
  const GridField heat = heat_on({2, 3});
  GridField flux = heat_on({3, 4});
  flux.name = "flux";
  flux.centre = FieldCentre::kNodes;
  flux.units = "<&\">";
  GridField count = heat_on({2, 2, 2});
  count.name = "count";
  count.units = "";
  const std::vector<double> heats = {1, 2};
  const std::vector<double> fluxes(12, 0.5);
  const std::vector<std::uint64_t> counts = {5, UINT64_MAX};
  PartRequest request{.checkpoint = number(1)};
  request.pieces = {piece_of("a/heat", 0, heats, {heat, {0, 1}, {2, 1}}),
                    piece_of("a/flux", 0, fluxes, {flux, {0, 0}, {3, 4}}),
                    {"counts", ElementType::kUint64, 0, std::as_bytes(std::span(counts)),
                     FieldBlock{count, {1, 0, 1}, {1, 2, 1}}}};
  request.attributes = {{"step", std::int64_t{12}}, {"time", 0.1}};
  const auto part = run.store.write_part(request).value();
  const auto sealed = run.store.seal({number(1), Epoch{1}, {}, {part}}, test::always);
  ASSERT_TRUE(sealed) << sealed.error();

  EXPECT_EQ(contents_of(run.directory("000001") / "fields.xdmf"),
            R"(<?xml version="1.0" encoding="UTF-8"?>
<Xdmf Version="2.0">
  <Domain>
    <Grid Name="grid-1" GridType="Uniform">
      <Time Value="0.1"/>
      <Topology TopologyType="2DCoRectMesh" Dimensions="3 4"/>
      <Geometry GeometryType="ORIGIN_DXDY">
        <DataItem Dimensions="2" NumberType="Float" Precision="8" Format="XML">
          -1.5 -0.5
        </DataItem>
        <DataItem Dimensions="2" NumberType="Float" Precision="8" Format="XML">
          0.25 0.5
        </DataItem>
      </Geometry>
      <Attribute Name="flux" AttributeType="Scalar" Center="Node">
        <Information Name="units" Value="&lt;&amp;&quot;&gt;"/>
        <DataItem Dimensions="3 4" NumberType="Float" Precision="8" Format="HDF">
          view.h5:/a/flux
        </DataItem>
      </Attribute>
      <Attribute Name="heat" AttributeType="Scalar" Center="Cell">
        <Information Name="units" Value="J m⁻³"/>
        <DataItem Dimensions="2 3" NumberType="Float" Precision="8" Format="HDF">
          view.h5:/a/heat
        </DataItem>
      </Attribute>
    </Grid>
    <Grid Name="grid-2" GridType="Uniform">
      <Time Value="0.1"/>
      <Topology TopologyType="3DCoRectMesh" Dimensions="3 3 3"/>
      <Geometry GeometryType="ORIGIN_DXDYDZ">
        <DataItem Dimensions="3" NumberType="Float" Precision="8" Format="XML">
          -1.5 -0.5 0.5
        </DataItem>
        <DataItem Dimensions="3" NumberType="Float" Precision="8" Format="XML">
          0.25 0.5 0.75
        </DataItem>
      </Geometry>
      <Attribute Name="count" AttributeType="Scalar" Center="Cell">
        <DataItem Dimensions="2 2 2" NumberType="Int" Precision="8" Format="HDF">
          view.h5:/counts
        </DataItem>
      </Attribute>
    </Grid>
  </Domain>
</Xdmf>
)");
  const std::string python = test::python_with_h5py();
  if (python.empty()) GTEST_SKIP() << "no python3 with h5py is installed";
  write_file(run.scratch.path() / "read.py", R"(import h5py, numpy, sys
nan = float("nan")
with h5py.File(sys.argv[1] + "/view.h5") as view:
    numpy.testing.assert_array_equal(view["a/heat"][...], [[nan, 1, nan], [nan, 2, nan]])
    assert view["counts"][...].tolist() == [[[0, 0], [0, 0]], [[0, 5], [0, 2**64 - 1]]]
)");
  EXPECT_EQ(std::system(fmt::format("{} {}/read.py {}", python, run.scratch.path().string(),
                                    run.directory("000001").string())
                            .c_str()),
            0);
}

TEST(Fields, WhatNoPartHoldsIsNoElement) {
  const TestRun run;
  const std::vector<double> values = {1, 2};
  PartRequest request{.checkpoint = number(1)};
  request.pieces = {piece_of("heat", 0, values, {heat_on({2, 3}), {0, 1}, {2, 1}})};
  const auto part = run.store.write_part(request).value();
  ASSERT_TRUE(run.store.seal({number(1), Epoch{1}, {}, {part}}, test::always));
  const auto checkpoint = run.store.open(number(1)).value();
  const auto error_of = [&](const std::string& dataset, const Shape& start, const Shape& extent) {
    std::vector<std::byte> bytes(8 * box_of(start, extent).elements());
    return checkpoint.read_block(dataset, start, extent, bytes).error();
  };
  EXPECT_THAT(error_of("heat", {0, 0}, {2, 3}),
              HasSubstr("4 elements of the block are in no part"));
  EXPECT_THAT(error_of("heat", {0, 0}, {3, 1}), HasSubstr("no such block"));
  EXPECT_THAT(error_of("heat", {0, 3}, {1, 1}), HasSubstr("no such block"));
  EXPECT_THAT(error_of("heat", {1}, {1}), HasSubstr("no such block"));
  EXPECT_THAT(error_of("none", {0, 0}, {1, 1}), HasSubstr("no field of that name"));
}

TEST(Fields, ReadingAWholePieceFindsDamage) {
  for (const int deflate_level : {0, 1}) {
    const FieldRun run({{40, 30}, 3, deflate_level});
    const auto checkpoint = run.store.open(number(2)).value();
    const auto& pieces = checkpoint.manifest().files.back().pieces;
    const auto piece = std::ranges::find(pieces, "grid/heat", &StoredPiece::dataset);
    ASSERT_NE(piece, pieces.end());
    test::flip_bit(run.directory("000002") / checkpoint.manifest().files.back().file,
                   8 * piece->storage[0].end() - 60);
    std::vector<std::byte> bytes(8 * 1200);

    EXPECT_THAT(checkpoint.read_block("grid/heat", Shape{0, 0}, Shape{40, 30}, bytes).error(),
                AllOf(HasSubstr(".h5: rows of 'grid/heat'"), Not(HasSubstr("\n"))));
  }
}

// ---- What cannot be ----

struct Lie {
  const char* from;
  const char* to;
  const char* reason;
};

// Manifests whose own hash is right, and what they say of a field is not.
TEST(Fields, ManifestsThatCannotBeAreRefused) {
  const FieldRun run({{6, 9}, 2, 0});
  const auto path = run.directory("000002") / "manifest.json";
  const std::string text = contents_of(path);
  ASSERT_THAT(text, HasSubstr(R"("start":[0,4],"extent":[6,5])"))
      << "or what is changed below is not there";
  for (const Lie& lie : std::vector<Lie>{
           {R"("name":"heat")", R"("name":"he at")", "without a valid name"},
           {R"("name":"heat")", R"("name":"heal")", "is of two fields"},
           {R"("centred":"cells")", R"("centred":"faces")", "a type is none of cells, nodes"},
           {R"("shape":[6,9])", R"("shape":[9,6])", "no block of its field"},
           {R"("shape":[6,9])", R"("shape":[7,9])", "is of two fields"},
           {R"("shape":[6,9])", R"("shape":[6,9,1])", "1 to 3 dimensions"},
           {R"("shape":[6,9])", R"("shape":[1,1,6,9])", "no list of at most 3"},
           {R"("shape":[6,9])", R"("shape":[6,18446744073709551615])", "that is no count"},
           {R"("shape":[6,9])", R"("shape":[536870913,536870912])", "too many"},
           {R"("shape":[6,9])", R"("shape":[6,-9])", "that is no count"},
           {R"("spacing":[0.25,0.5])", R"("spacing":[0.25,-0.5])", "origin and spacing"},
           {R"("spacing":[0.25,0.5])", R"("spacing":[0.25,"0.5"])", "that is no number"},
           {R"("origin":[-1.5,-0.5])", R"("origin":[-1.5])", "1 to 3 dimensions"},
           {R"("start":[0,4])", R"("start":[0,5])", "no block of its field"},
           {R"("start":[0,4])", R"("start":[0,3])", "have the same elements"},
           {R"("start":[0,4])", R"("start":[288230376151711744,4])", "no block of its field"},
           {R"("extent":[6,5])", R"("extent":[5,6])", "no block of its field"},
           {R"("extent":[6,5])", R"("extent":[6,4])", "not the rows of its block"},
           {R"("extent":[6,5])", R"("extent":[6,"5"])", "that is no count"},
           {R"("field":{)", R"("field":7,"x":{)", "should be an object"},
           {R"("field":{)", R"("gone":{)", "is of two fields"},
           {R"("xdmf": {)", R"("gone": {)", "its fields are not those"},
           {R"("xdmf": {)", R"("xdmf": 7, "gone": {)", "should be an object"}}) {
    std::string lying = text;
    const auto at = lying.rfind(lie.from);
    ASSERT_NE(at, lying.npos) << lie.from;
    lying.replace(at, std::string_view(lie.from).size(), lie.to);
    lying.resize(lying.size() - 36);
    write_file(path, lying + content_hash(lying) + "\"\n}\n");

    const auto opened = run.store.open(number(2));

    ASSERT_FALSE(opened) << lie.from << " -> " << lie.to;
    EXPECT_THAT(opened.error().reason, HasSubstr(lie.reason)) << lie.from << " -> " << lie.to;
  }
}

TEST(Fields, PartsThatDoNotFitAreRefused) {
  const TestRun run;
  const std::vector<double> values(6);
  const auto sealed = [&](std::uint64_t checkpoint, const std::vector<PieceToWrite>& pieces) {
    PartRequest request{.checkpoint = number(checkpoint)};
    request.pieces = pieces;
    const auto part = run.store.write_part(request);
    if (!part) return part.error();
    const auto done = run.store.seal({number(checkpoint), Epoch{1}, {}, {*part}}, test::always);
    return done ? std::string() : done.error();
  };
  const GridField heat = heat_on({2, 6});
  const FieldBlock low{heat, {0, 0}, {2, 3}};
  const FieldBlock high{heat, {0, 3}, {2, 3}};
  GridField other = heat;
  other.units = "K";
  EXPECT_THAT(sealed(1, {piece_of("h", 0, values, {heat, {0, 0}, {3, 2}})}),
              HasSubstr("a piece of 'h' is no block of its field"));
  EXPECT_THAT(sealed(1, {piece_of("h", 0, values, low), piece_of("h", 6, values, low)}),
              HasSubstr("have the same elements of their field"));
  EXPECT_THAT(
      sealed(2, {piece_of("h", 0, values, low), piece_of("h", 6, values, {other, {0, 3}, {2, 3}})}),
      HasSubstr("is of two fields"));
  EXPECT_THAT(sealed(3, {piece_of("h", 0, values, low),
                         {"h", ElementType::kFloat64, 6, std::as_bytes(std::span(values))}}),
              HasSubstr("is of two fields"));
  EXPECT_THAT(sealed(4, {piece_of("h", 0, values, low), piece_of("i", 0, values, low)}),
              HasSubstr("have fields of one name"));
  EXPECT_EQ(sealed(5, {piece_of("h", 0, values, low), piece_of("h", 6, values, high)}), "");
  EXPECT_THAT(names_in(run.directory("000004")), Not(Contains("fields.xdmf")));
}

// ---- Beside the other files ----

TEST(Fields, WithoutThemACheckpointIsAsBefore) {
  const TestRun run;
  const auto manifest = take(run.store, {}).value();
  EXPECT_THAT(to_text(manifest), AllOf(Not(HasSubstr("xdmf")), Not(HasSubstr("field"))));
  EXPECT_THAT(names_in(run.directory("000001")), Not(Contains("fields.xdmf")));
}

TEST(Fields, TheFileGoesWithItsCheckpoint) {
  const TestRun run;
  for (const std::uint64_t checkpoint : {1, 2, 3})
    ASSERT_TRUE(take(run.store, {.checkpoint = number(checkpoint), .grid = {4, 4}}));
  const auto removal = run.store.retain(2).value();
  EXPECT_THAT(removal.problems, IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(run.directory("000001")));
}

TEST(Fields, NoByteOfTheFileIsWithoutGuard) {
  const FieldRun run({{6, 9}, 2, 0});
  const auto path = run.directory("000002") / "fields.xdmf";
  for (std::uint64_t at = 0; at < std::filesystem::file_size(path); ++at) {
    test::flip_bit(path, 8 * at + at % 8);
    const auto verification = run.store.verify(number(2));
    ASSERT_EQ(verification.problems.size(), 1u) << "byte " << at;
    EXPECT_EQ(verification.problems[0].file, "fields.xdmf");
    test::flip_bit(path, 8 * at + at % 8);
  }
  expect_valid(run.store, number(2));
  std::filesystem::resize_file(path, 17);
  EXPECT_THAT(run.store.open(number(2)).error().reason, HasSubstr("fields.xdmf: it has 17 bytes"));
  std::filesystem::remove(path);
  EXPECT_THAT(run.store.open(number(2)).error().reason, HasSubstr("fields.xdmf: No such file"));
}

}  // namespace
}  // namespace regroup
