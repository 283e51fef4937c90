//! Collaborators (contract §1.11).

use serde_json::json;
use sqlx::PgPool;

use crate::harness::World;

#[sqlx::test(migrations = "./migrations")]
async fn collaborators_come_and_go(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob, cat, root) =
        (world.user("ann").await, world.user("bob").await, world.user("cat").await, world.admin("root").await);
    let forbidden = "You do not have permission to perform this action.";
    world.app(&ann, "hello").await;
    world.get(&ann, "/v2/apps/hello/perms/").await.says(200, &json!({"users": []}));
    world.post(&bob, "/v2/apps/hello/perms", json!({"username": "bob"})).await.details(403, forbidden);
    for _ in 0..2 {
        world.post(&ann, "/v2/apps/hello/perms/", json!({"username": "bob"})).await.is_empty(201);
    }
    world.post(&root, "/v2/apps/hello/perms/", json!({"username": "cat"})).await.is_empty(201);
    world.get(&bob, "/v2/apps/hello/perms").await.says(200, &json!({"users": ["bob", "cat"]}));
    // A collaborator adds nobody and removes nobody else.
    world.post(&bob, "/v2/apps/hello/perms", json!({"username": "cat"})).await.details(403, forbidden);
    world.delete(&bob, "/v2/apps/hello/perms/cat").await.details(403, forbidden);
    world.delete(&bob, "/v2/apps/hello/perms/bob").await.is_empty(204);
    world.get(&bob, "/v2/apps/hello").await.details(403, forbidden);
    world.delete(&ann, "/v2/apps/hello/perms/bob").await.details(403, forbidden);
    world.delete(&ann, "/v2/apps/hello/perms/cat").await.is_empty(204);
    world.get(&cat, "/v2/apps/hello").await.details(403, forbidden);
    world
        .post(&ann, "/v2/apps/hello/perms", json!({"username": "nobody"}))
        .await
        .says(404, &json!("No User matches the given query."));
    world.delete(&ann, "/v2/apps/hello/perms/nobody").await.says(404, &json!("No User matches the given query."));
    world
        .post(&ann, "/v2/apps/hello/perms", json!({}))
        .await
        .says(400, &json!({"username": ["This field is required."]}));
    world.get(&ann, "/v2/apps/none/perms").await.says(404, &json!("No App matches the given query."));
}
