from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    operations = [
        migrations.CreateModel(
            name="SessionRow",
            fields=[
                ("key", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("sealed", models.CharField(max_length=600)),
                ("session_id", models.CharField(db_index=True, max_length=255)),
                ("user_id", models.CharField(db_index=True, max_length=255)),
                ("record", models.TextField()),
                ("data", models.BinaryField()),
                ("visit", models.TextField()),
                ("expires_at", models.BigIntegerField(db_index=True)),
                ("is_ended", models.BooleanField(default=False)),
                ("mark", models.BigIntegerField(db_index=True, default=0)),
            ],
            options={"verbose_name": "stored session", "default_permissions": ()},
        ),
    ]
